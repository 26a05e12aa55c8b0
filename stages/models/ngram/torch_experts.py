"""The experts of `gpt` for texts that grow by one token at a time, with PyTorch.

`ngram_experts.py` and `context_index.py` compute the same for whole windows, and `numpy_experts.py` for one text on the
CPU.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.core.device import cached_tensor
from stages.models.kneser_ney import KneserNey
from stages.models.ngram.cache_lm import BIGRAM_STRENGTHS, ngram_strengths
from stages.models.ngram.context_index import ContextIndex
from stages.models.ngram.ngram_experts import count_cache_contexts
from stages.models.ngram.window_matches import MIN_CONTEXT
from stages.models.ngram.word_line_contexts import TorchWordLineContexts


class TorchExperts:
    """The log-probabilities of each expert at the end of a text.

    Args:
        prior: the n-gram model.
        ids: the texts so far, (B, T).
        block_size: tokens that the experts see.
        cache_lm: whether the cache language model is one of the experts.
        context_index: index of the context experts, or None.
    """

    def __init__(
        self,
        prior: KneserNey,
        ids: Tensor,
        block_size: int,
        cache_lm: bool,
        context_index: ContextIndex | None = None,
    ) -> None:
        self.table = prior.table
        self.ngram_contexts = TorchNgrams(prior, ids, block_size)
        self.num_lengths = count_cache_contexts(prior.params.ngram_order)
        self.bigram_strengths = cached_tensor(BIGRAM_STRENGTHS, ids.device)
        self.cache = TorchCacheLM(ids, block_size, self.num_lengths) if cache_lm else None
        self.context_index = context_index
        self.word_line_contexts = (
            TorchWordLineContexts(ids, context_index.token_classes, block_size) if context_index else None
        )

    def step(self, ids: Tensor) -> Tensor:
        """Append one token to each text, (B,), and return the log-probabilities of the next one, (B, experts, V)."""
        rows = self.ngram_contexts.step(ids)
        probs: Tensor = self.table(rows)
        experts = [probs]
        if self.cache:
            self.cache.step(ids)
            strengths = ngram_strengths(self.table.totals[rows], self.num_lengths)
            experts.append(self.cache.apply(self.table(rows[:, :2]), self.bigram_strengths))
            experts.append(self.cache.apply(probs, strengths))
        log_probs = torch.stack(experts, dim=1).log()
        if self.context_index is None or self.word_line_contexts is None:
            return log_probs
        self.word_line_contexts.step(ids)
        return torch.cat((log_probs, self.context_index.last_log_probs(self.word_line_contexts, experts[-1])), dim=1)


class TorchNgrams:
    """The contexts of every length up to `max_context` that end a text.

    A context of n tokens is found from the one of n - 1 tokens that ended the text one token earlier. All lengths are
    therefore looked up at once in one list of keys, in which each length has its own range of numbers.
    """

    def __init__(self, prior: KneserNey, ids: Tensor, max_context: int) -> None:
        self.max_context = max_context
        order, vocab_size = prior.params.ngram_order, prior.vocab_size
        self.vocab_size, self.first_rows = vocab_size, prior.table.first_rows
        keys, starts, offsets = [], [0], [vocab_size]
        shorter = vocab_size  # number of contexts that are shorter by one token
        for length in range(2, order):
            level_keys = prior.get_buffer(f"keys_{length}")
            keys.append(level_keys + offsets[-1])
            starts.append(starts[-1] + len(level_keys))
            # Room for the keys of all shorter contexts and, before it, for that of a missing one (-1).
            offsets.append(offsets[-1] + (shorter + 1) * vocab_size)
            shorter = len(level_keys)
        self.keys = torch.cat(keys) if keys else ids.new_empty(0)
        self.starts, self.offsets = (ids.new_tensor(values[: order - 2]) for values in (starts, offsets))
        rows = prior.find_rows(ids[:, 1 - order :])[:, -1, 1:]
        self.contexts = torch.where(rows > 0, rows - self.first_rows[1:], -1)  # of 1 … order - 1 tokens; -1: unseen

    def step(self, ids: Tensor) -> Tensor:
        """Append one token to each text, (B,), and return the rows of its contexts, (B, order)."""
        last = ids[:, None]
        if len(self.keys):
            keys = self.contexts[:, :-1] * self.vocab_size + last + self.offsets
            index = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
            longer = torch.where(self.keys[index] == keys, index - self.starts, -1)
        else:
            longer = torch.full_like(self.contexts[:, :-1], -1)
        self.contexts = torch.cat((last, longer), dim=1)
        self.contexts[:, self.max_context :] = -1
        rows = torch.where(self.contexts < 0, 0, self.contexts + self.first_rows[1:])
        return torch.cat((self.first_rows[:1].expand(len(ids), 1), rows), dim=1)


class TorchCacheLM:
    """The cache language model of the last `size` tokens, for contexts of `num_lengths` lengths.

    `match_lengths[:, j]` is how many tokens that end at position j equal those that end the text, at most
    `max_context`.
    """

    def __init__(self, ids: Tensor, size: int, num_lengths: int) -> None:
        self.size, self.num_lengths, self.max_context = size, num_lengths, MIN_CONTEXT + num_lengths - 1
        length = ids.shape[1]
        self.ids = ids
        self.match_lengths = torch.zeros(len(ids), length - 1, dtype=torch.uint8, device=ids.device)
        still_matching = torch.ones_like(self.match_lengths)
        for back in range(min(self.max_context, length)):
            still_matching[:, :back] = 0
            still_matching[:, back:] *= ids[:, : length - 1 - back] == ids[:, -1 - back, None]
            self.match_lengths += still_matching
        self.limits = torch.arange(1, self.max_context + 1, dtype=torch.uint8, device=ids.device)
        self.counts = self.row = self.length = self.followers = ids.new_empty(0)

    def step(self, ids: Tensor) -> None:
        """Append one token to each text, (B,), and find the earlier positions that match its end."""
        matches = torch.cat((torch.ones_like(ids, dtype=torch.uint8)[:, None], self.match_lengths + 1), dim=1)
        matches = matches.mul_(self.ids == ids[:, None]).clamp_(max=self.max_context)
        self.ids = torch.cat((self.ids, ids[:, None]), dim=1)
        if self.ids.shape[1] > self.size:  # evict the oldest token; no context may begin before the second oldest
            self.ids, matches = self.ids[:, 1:], matches[:, 1:]
            limited = matches[:, : self.max_context]
            matches[:, : self.max_context] = torch.minimum(limited, self.limits[: matches.shape[1]])
        self.match_lengths = matches
        # On a GPU all positions, because it would have to wait for the number of those that match.
        on_cpu = ids.device.type == "cpu"
        indices = (matches >= MIN_CONTEXT).nonzero() if on_cpu else _all_indices(matches)
        self.row, position = indices.unbind(1)
        self.length = matches[self.row, position].long()
        self.followers = self.ids[self.row, position + 1]
        counts = torch.zeros(len(ids), self.max_context + 1, dtype=torch.int64, device=ids.device)
        counts.index_put_((self.row, self.length), torch.ones_like(self.row), accumulate=True)
        self.counts = counts.flip(1).cumsum(1).flip(1)[:, MIN_CONTEXT:]  # of matches of at least so many tokens

    def apply(self, probs: Tensor, strengths: Tensor) -> Tensor:
        """Return the distributions after the text, (B, V); see `apply_cache_lm`.

        Args:
            probs: distributions to back off to, (B, V).
            strengths: for contexts of MIN_CONTEXT tokens and more, (lengths,) or (B, lengths).
        """
        lengths = strengths.shape[-1]
        totals = self.counts[:, :lengths] + strengths
        # The weight of everything below each length.
        backoff_weights = (strengths / totals).flip(1).cumprod(1).flip(1)
        longer = F.pad(backoff_weights[:, 1:], (0, 1), value=1.0)
        # A match of k tokens counts for every length up to k. On CUDA, cumsum of floats is not deterministic.
        up_to = torch.ones(lengths, lengths, device=probs.device).triu()
        match_weights = (longer / totals) @ up_to
        length = self.length.clamp(max=lengths + MIN_CONTEXT - 1)
        weights = F.pad(match_weights, (MIN_CONTEXT, 0))[self.row, length]
        probs = probs * backoff_weights[:, :1]
        return probs.index_put_((self.row, self.followers), weights, accumulate=True)


def _all_indices(x: Tensor) -> Tensor:
    """Return the rows and columns of all elements of `x`, (rows * columns, 2)."""
    rows, columns = x.shape
    index = torch.arange(rows * columns, device=x.device)
    return torch.stack((torch.div(index, columns, rounding_mode="floor"), index % columns), dim=1)
