"""The n-gram experts for texts that grow by one token at a time; `mixture.py` computes the same for whole windows."""

import torch
from torch import Tensor

from stages.models.kneser_ney import KneserNey
from stages.models.ngram.cache_lm import MIN_CONTEXT, STRENGTHS, WEAK_STRENGTHS

MAX_CONTEXT = MIN_CONTEXT + len(STRENGTHS) - 1


class IncrementalExperts:
    """The log-probabilities of each expert at the end of a text.

    Args:
        prior: the n-gram model.
        ids: the texts so far, (B, T).
        cache_size: tokens that the cache language model uses; 0 if it is not one of the experts.
    """

    def __init__(self, prior: KneserNey, ids: Tensor, cache_size: int) -> None:
        self.table = prior.table
        self.contexts = ContextTracker(prior, ids)
        self.cache = IncrementalCache(ids, cache_size) if cache_size else None

    def step(self, ids: Tensor) -> Tensor:
        """Append one token to each text, (B,), and return the log-probabilities of the next one, (B, experts, V)."""
        rows = self.contexts.step(ids)
        probs: Tensor = self.table(rows)
        if not self.cache:
            return probs[:, None].log()
        self.cache.step(ids)
        experts = (
            probs,
            self.cache.apply(self.table(rows[:, :2]), self.cache.strengths),
            self.cache.apply(probs, self.cache.weak_strengths),
        )
        return torch.stack(experts, dim=1).log()


class ContextTracker:
    """The contexts of every length that end a text.

    A context of n tokens is found from the one of n - 1 tokens that ended the text one token earlier. All lengths are
    therefore looked up at once in one list of keys, in which each length has its own range of numbers.
    """

    def __init__(self, prior: KneserNey, ids: Tensor) -> None:
        order, vocab_size = prior.params.ngram_order, prior.vocab_size
        self.vocab_size, self.first_rows = vocab_size, prior.table.first_rows
        keys, starts, offsets = [], [0], [vocab_size]
        for length in range(2, order):
            level_keys = prior.get_buffer(f"keys_{length}") + offsets[-1]
            keys.append(level_keys)
            starts.append(starts[-1] + len(level_keys))
            # A gap of V before the keys of each length: the key of a missing context (-1) falls there and is not found.
            offsets.append((int(level_keys[-1]) + 1 if len(level_keys) else offsets[-1]) + vocab_size)
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
        rows = torch.where(self.contexts < 0, 0, self.contexts + self.first_rows[1:])
        return torch.cat((self.first_rows[:1].expand(len(ids), 1), rows), dim=1)


class IncrementalCache:
    """The cache language model of the last `size` tokens.

    `match_lengths[:, j]` is how many tokens that end at position j equal those that end the text, at most MAX_CONTEXT.
    """

    def __init__(self, ids: Tensor, size: int) -> None:
        self.size, length = size, ids.shape[1]
        self.ids = ids
        self.match_lengths = torch.zeros(len(ids), length - 1, dtype=torch.uint8, device=ids.device)
        still_matching = torch.ones_like(self.match_lengths)
        for back in range(min(MAX_CONTEXT, length)):
            still_matching[:, :back] = 0
            still_matching[:, back:] *= ids[:, : length - 1 - back] == ids[:, -1 - back, None]
            self.match_lengths += still_matching
        self.limits = torch.arange(1, MAX_CONTEXT + 1, dtype=torch.uint8, device=ids.device)
        self.strengths, self.weak_strengths = (
            torch.tensor(values, device=ids.device).flip(0) for values in (STRENGTHS, WEAK_STRENGTHS)
        )
        self.counts = torch.zeros(0)
        self.row = self.length = self.followers = ids.new_empty(0)

    def step(self, ids: Tensor) -> None:
        """Append one token to each text, (B,), and find the earlier positions that match its end."""
        matches = torch.cat((torch.ones_like(ids, dtype=torch.uint8)[:, None], self.match_lengths + 1), dim=1)
        matches = matches.mul_(self.ids == ids[:, None]).clamp_(max=MAX_CONTEXT)
        self.ids = torch.cat((self.ids, ids[:, None]), dim=1)
        if self.ids.shape[1] > self.size:  # evict the oldest token; no context may begin before the second oldest
            self.ids, matches = self.ids[:, 1:], matches[:, 1:]
            matches[:, :MAX_CONTEXT] = torch.minimum(matches[:, :MAX_CONTEXT], self.limits[: matches.shape[1]])
        self.match_lengths = matches
        self.row, position = (matches >= MIN_CONTEXT).nonzero().unbind(1)
        self.length = matches[self.row, position].long() - MIN_CONTEXT
        self.followers = self.ids[self.row, position + 1]
        counts = torch.zeros(len(ids), len(STRENGTHS), dtype=torch.int64, device=ids.device)
        counts.index_put_((self.row, self.length), torch.ones_like(self.row), accumulate=True)
        self.counts = counts.flip(1).cumsum(1)  # of matches of at least so many tokens, longest first

    def apply(self, probs: Tensor, strengths: Tensor) -> Tensor:
        """Return the distributions after the text, which back off to `probs`, (B, V)."""
        if not len(self.row):
            return probs
        backoff_weights = (strengths / (self.counts + strengths)).cumprod(1)
        shorter = torch.ones(len(strengths), len(strengths), device=probs.device).triu()
        # Of one match, summed over shorter lengths; on CUDA, cumsum of floats is not deterministic.
        match_weights = (backoff_weights / strengths).flip(1) @ shorter
        probs = probs * backoff_weights[:, -1:]
        return probs.index_put_((self.row, self.followers), match_weights[self.row, self.length], accumulate=True)
