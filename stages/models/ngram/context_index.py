"""What followed the latest occurrences of word and line contexts, in the window and in the training text.

In the training text, the occurrences of a context are adjacent in one list, ordered by position. In training, a
position must not see its own fold (`cross_fitting.py`). It sees up to MAX_OCCURRENCES others: first those before the
fold, from the latest back, and then those after it, from the end of the text back.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.ngram.backoff_table import token_dtype
from stages.models.ngram.counts import IntArray, run_starts
from stages.models.ngram.text_sized_buffers import TextSizedBuffers
from stages.models.ngram.word_line_contexts import CONTEXT_KINDS, CONTEXTS_PER_KIND, TorchWordLineContexts, context_keys

MAX_OCCURRENCES = 16
BACKOFF_STRENGTH = 2.0  # occurrences that a shorter context is worth
KEY_RANGE = 1 << 33
CHUNK_SIZE, CHUNK_OVERLAP = 1 << 18, 1 << 12  # tokens whose keys are computed at once; those before that are read too
BUFFERS = ("keys", "ends", "followers")


@dataclass(frozen=True)
class Occurrences:
    """The occurrences of contexts in the training text; every field has the shape of the contexts.

    Attributes:
        first: index in `followers` where the list of all occurrences of a context begins.
        size: the length of that list.
        end: index just after the latest occurrence to use.
        count: number of occurrences to use, going backwards from `end`. The list is circular: before its first
            occurrence comes its last.
    """

    first: Tensor
    size: Tensor
    end: Tensor
    count: Tensor


class ContextIndex(TextSizedBuffers):
    """The tokens that followed each context of the training text.

    Attributes:
        keys: keys of the contexts that occur, sorted; contexts of different kinds and lengths have ranges of their own.
        ends: where the occurrences of each context end in `followers`.
        followers: the token after each occurrence.
        token_classes: what each token is, (3, V); see `word_line_contexts.py`.
        rows: for each position of the training text, the indices of its contexts in `keys`, (contexts, N). This and
            the next two are not part of the state dict.
        fold_starts: where the occurrences in the fold of a position begin, in `followers`.
        fold_counts: the number of these occurrences.
    """

    keys: Tensor
    ends: Tensor
    followers: Tensor
    token_classes: Tensor
    rows: Tensor
    fold_starts: Tensor
    fold_counts: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        for name in BUFFERS:
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))
        self.register_buffer("token_classes", torch.zeros(3, vocab_size, dtype=torch.int64))
        for name in ("rows", "fold_starts", "fold_counts"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int32), persistent=False)

    def fit(self, tokens: Tensor, token_classes: Tensor | None = None, folds: int = 0) -> None:
        """Index the training text.

        Args:
            tokens: token ids, (N,).
            token_classes: as in `LanguageModel.fit`; without them, those of the last call stay.
            folds: number of contiguous folds, as in cross-fitting: a context belongs to that of the token after it. 0:
                none; then there are no predictions for positions of the training text.
        """
        device = tokens.device
        if token_classes is not None:
            self.token_classes = token_classes.to(device)
        ids = tokens.cpu().long()
        length = max(0, len(ids) - 1)  # nothing follows the last token
        fold = (np.arange(1, length + 1) * folds // max(1, len(ids))).astype(np.int32)
        followers: IntArray = ids[1:].numpy().astype(token_dtype(self.vocab_size))
        parts: dict[str, list[IntArray]] = {name: [] for name in (*BUFFERS, "rows", "fold_starts", "fold_counts")}
        row_count = 0
        for index, keys in enumerate(keys_of_text(ids[:-1], self.token_classes.cpu())):
            order = np.argsort(keys, kind="stable").astype(np.int32)
            ordered = keys[order]
            is_new = run_starts(ordered)
            list_ends = np.append(np.flatnonzero(is_new)[1:], length)[: int(is_new.sum())]
            parts["keys"].append(ordered[is_new].astype(np.int64) + index * KEY_RANGE)
            parts["ends"].append((index * length + list_ends).astype(np.int32))
            parts["followers"].append(followers[order])
            if not folds:
                continue
            ordered_fold = fold[order]
            is_new_fold = is_new | run_starts(ordered_fold)
            bounds = np.append(np.flatnonzero(is_new_fold), length).astype(np.int32)
            fold_number = np.cumsum(is_new_fold, dtype=np.int32) - 1  # of each occurrence, among (context, fold) pairs
            parts["rows"].append(_at_positions(order, row_count + np.cumsum(is_new, dtype=np.int32) - 1))
            parts["fold_starts"].append(_at_positions(order, index * length + bounds[fold_number]))
            parts["fold_counts"].append(_at_positions(order, np.diff(bounds)[fold_number]))
            row_count += len(list_ends)
        for name, arrays in parts.items():
            if name in BUFFERS:
                setattr(self, name, torch.from_numpy(np.concatenate(arrays)).to(device))
            else:
                joined = np.stack(arrays) if folds else np.empty(0, np.int32)
                setattr(self, name, torch.from_numpy(joined).to(device))

    def log_probs(self, ids: Tensor, probs: Tensor, train_positions: Tensor | None = None) -> Tensor:
        """Return the log-probabilities of the next token after each kind of context, (B, T, kinds, V).

        Args:
            ids: windows, (B, T).
            probs: distributions to back off to, (B, T, V).
            train_positions: as in `LanguageModel.forward`, (B, T).
        """
        keys = context_keys(ids, self.token_classes).flatten(0, 1)
        if train_positions is None:
            occurrences = self._occurrences(keys.flatten(1))
        else:
            occurrences = self._occurrences_outside_fold(train_positions.flatten())
        followers, counts = latest_in_windows(keys, ids)
        followers, counts = self._add_training_text(followers.flatten(1, 2), counts.flatten(1), occurrences)
        return back_off(followers, counts, probs.flatten(0, 1)).log().view(*ids.shape, len(CONTEXT_KINDS), -1)

    def last_log_probs(self, contexts: TorchWordLineContexts, probs: Tensor) -> Tensor:
        """Return the log-probabilities of the token after each text, (B, kinds, V).

        Args:
            contexts: the contexts of the texts.
            probs: distributions to back off to, (B, V).
        """
        keys = contexts.keys.flatten(0, 1)
        followers, counts = latest_at_end(keys, contexts.ids)
        followers, counts = self._add_training_text(followers, counts, self._occurrences(keys[..., -1]))
        return back_off(followers, counts, probs).log()

    def _occurrences(self, keys: Tensor) -> Occurrences:
        """Return all occurrences of the contexts with given keys, (contexts, N)."""
        if not len(self.keys):
            return Occurrences(*torch.zeros(4, *keys.shape, dtype=torch.int64, device=keys.device).unbind())
        numbers = torch.arange(len(keys), device=keys.device)[:, None]
        keys = keys + numbers * KEY_RANGE  # a range of their own for every kind and length
        rows = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        first, size, end = self._lists(rows)
        return Occurrences(first, size, end, size * (self.keys[rows] == keys))

    def _occurrences_outside_fold(self, positions: Tensor) -> Occurrences:
        """Return the occurrences outside its fold of the contexts at each position of the training text, (N,)."""
        first, size, _ = self._lists(self.rows[:, positions].long())
        end = self.fold_starts[:, positions].long()
        return Occurrences(first, size, end, size - self.fold_counts[:, positions])

    def _lists(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return where the lists of contexts begin, their sizes, and where they end."""
        end = self.ends[rows].long()
        first = torch.where(rows > 0, self.ends[rows - 1].long(), 0)
        return first, end - first, end

    def _add_training_text(
        self, window_followers: Tensor, window_counts: Tensor, occurrences: Occurrences
    ) -> tuple[Tensor, Tensor]:
        """Fill up the latest occurrences of contexts in a window with those in the training text.

        Args:
            window_followers: followers in the window, the latest first, (contexts, N, MAX_OCCURRENCES).
            window_counts: how many of them are valid, (contexts, N).
            occurrences: those of the same contexts in the training text.

        Returns:
            followers and counts of the same shapes.
        """
        if not len(self.followers):
            return window_followers, window_counts
        slot = torch.arange(MAX_OCCURRENCES, device=window_followers.device)
        from_end = (slot - window_counts[..., None]).clamp_(min=0)
        entry = occurrences.end[..., None] - 1 - from_end
        entry = torch.where(entry < occurrences.first[..., None], entry + occurrences.size[..., None], entry)
        text_followers = self.followers[entry.clamp_(0, len(self.followers) - 1)].long()
        followers = torch.where(slot < window_counts[..., None], window_followers, text_followers)
        return followers, (window_counts + occurrences.count).clamp_(max=MAX_OCCURRENCES)


def latest_in_windows(keys: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens that followed the latest earlier occurrences of each context in its window, and their number.

    Args:
        keys: keys of the contexts at each position of windows, (contexts, B, T).
        ids: the windows, (B, T).

    Returns:
        followers, (contexts, B, T, MAX_OCCURRENCES), the latest first, and counts, (contexts, B, T).
    """
    contexts, batch, length = keys.shape
    position = torch.arange(length, device=ids.device).expand_as(keys)
    ordered, order = keys.sort(dim=2, stable=True)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, :, 1:] = ordered[:, :, 1:] != ordered[:, :, :-1]
    list_start = torch.where(is_new, position, 0).cummax(2).values
    rank, start = (torch.empty_like(order).scatter_(2, order, values) for values in (position, list_start))
    back = torch.arange(1, MAX_OCCURRENCES + 1, device=ids.device)
    earlier = order.gather(2, (rank[..., None] - back).clamp_(min=0).flatten(2))
    followers = ids.expand(contexts, batch, length).gather(2, (earlier + 1).clamp_(max=length - 1))
    return followers.view(*keys.shape, MAX_OCCURRENCES), (rank - start).clamp_(max=MAX_OCCURRENCES)


def latest_at_end(keys: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same as `latest_in_windows` for the last position alone, (contexts, B, …)."""
    matches = keys[..., :-1] == keys[..., -1:]
    ends = torch.where(matches, torch.arange(1, ids.shape[1], device=ids.device), 0)
    latest = ends.topk(min(MAX_OCCURRENCES, ends.shape[-1])).values
    followers = ids.expand(len(keys), *ids.shape).gather(2, latest)
    missing = MAX_OCCURRENCES - latest.shape[-1]
    return F.pad(followers, (0, missing)), (latest > 0).sum(-1)


def back_off(followers: Tensor, counts: Tensor, probs: Tensor) -> Tensor:
    """Return the distributions after contexts of each kind, (N, kinds, V).

    If n(c) of the n latest occurrences of the longest context are followed by c,

        p(c) = (n(c) + BACKOFF_STRENGTH * p'(c)) / (n + BACKOFF_STRENGTH)

    where p' is the same for the next shorter context, and `probs` after the shortest.

    Args:
        followers: followers of each context, (contexts, N, MAX_OCCURRENCES).
        counts: how many of them are valid, (contexts, N).
        probs: distributions to back off to, (N, V).
    """
    size, vocab_size = probs.shape
    by_length = counts.float().view(len(CONTEXT_KINDS), CONTEXTS_PER_KIND, size).unbind(1)
    below = torch.ones_like(by_length[0])  # weight of everything below a context, (kinds, N)
    weights: list[Tensor] = []
    for count in reversed(by_length):
        weights.insert(0, below / (count + BACKOFF_STRENGTH))
        below = below * BACKOFF_STRENGTH / (count + BACKOFF_STRENGTH)
    is_valid = torch.arange(MAX_OCCURRENCES, device=probs.device) < counts[..., None]
    weight = torch.stack(weights, dim=1).flatten(0, 1)[..., None] * is_valid
    cell = (
        torch.arange(size, device=probs.device) * len(CONTEXT_KINDS)
        + torch.arange(len(CONTEXT_KINDS), device=probs.device)[:, None]
    )
    cells = cell.repeat_interleave(CONTEXTS_PER_KIND, dim=0)[..., None] * vocab_size + followers
    out = (below.T[..., None] * probs[:, None]).flatten()
    return out.scatter_add_(0, cells.flatten(), weight.flatten()).view(size, len(CONTEXT_KINDS), vocab_size)


def keys_of_text(ids: Tensor, token_classes: Tensor) -> IntArray:
    """Return the keys of all contexts of a long text, (N,), as (contexts, N) int32, in chunks to save memory.

    A context that begins more than CHUNK_OVERLAP tokens before a chunk is cut.
    """
    keys = np.empty((len(CONTEXT_KINDS) * CONTEXTS_PER_KIND, len(ids)), np.int32)
    for start in range(0, len(ids), CHUNK_SIZE):
        begin = max(0, start - CHUNK_OVERLAP)
        of_chunk = context_keys(ids[None, begin : start + CHUNK_SIZE], token_classes).flatten(0, 1)
        keys[:, start : start + CHUNK_SIZE] = of_chunk[:, 0, start - begin :].numpy()
    return keys


def _at_positions(order: IntArray, values: IntArray) -> IntArray:
    """Return values, given in the order of `order`, by position."""
    by_position = np.empty(len(order), np.int32)
    by_position[order] = values
    return by_position
