"""The experts of `gpt` for one text that grows by one token at a time, on the CPU, with NumPy.

`torch_experts.py` computes the same for several texts at once, on any device; keep the formulas equal. For one
text, the time to start an operation of PyTorch is longer than the operation, and NumPy starts one several times faster.
"""

from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import islice

import numpy as np

from stages.models.kneser_ney import KneserNey
from stages.models.ngram.backoff_table import BackoffTable
from stages.models.ngram.cache_lm import BIGRAM_STRENGTHS, MIN_STRENGTH, STRENGTH_PER_COUNT
from stages.models.ngram.context_index import BACKOFF_STRENGTH, KEY_RANGE, MAX_OCCURRENCES, ContextIndex
from stages.models.ngram.counts import FloatArray, IntArray
from stages.models.ngram.ngram_experts import count_cache_contexts
from stages.models.ngram.window_matches import MIN_CONTEXT
from stages.models.ngram.word_line_contexts import CONTEXT_KINDS, CONTEXTS_PER_KIND, MULTIPLIER, PRIME


class NumpyExperts:
    """The log-probabilities of each expert at the end of a text.

    Args:
        prior: the n-gram model.
        block_size: tokens that the experts see.
        cache_lm: whether the cache language model is one of the experts.
        context_index: index of the context experts, or None.
    """

    def __init__(self, prior: KneserNey, block_size: int, cache_lm: bool, context_index: ContextIndex | None) -> None:
        self.ngrams = NumpyNgrams(prior, block_size)
        num_lengths = count_cache_contexts(prior.params.ngram_order)
        self.cache = NumpyCacheLM(block_size, num_lengths) if cache_lm else None
        self.bigram_strengths = np.array(BIGRAM_STRENGTHS, np.float32)
        self.min_strengths = np.full(num_lengths, MIN_STRENGTH, np.float32)
        self.contexts = NumpyWordLineContexts(context_index, block_size) if context_index else None

    def append(self, token: int) -> None:
        """Append a token to the text."""
        self.ngrams.append(token)
        if self.cache:
            self.cache.append(token)
        if self.contexts:
            self.contexts.append(token)

    def log_probs(self) -> FloatArray:
        """Return the log-probabilities of the next token, (experts, V)."""
        rows = self.ngrams.rows
        experts = [self.ngrams.probs(rows)]
        if self.cache:
            strengths = self.min_strengths.copy()  # as in `ngram_strengths`
            totals = self.ngrams.totals[rows[MIN_CONTEXT : MIN_CONTEXT + len(strengths)]]
            strengths[: len(totals)] += STRENGTH_PER_COUNT * totals
            matches = self.cache.find_matches()
            experts.append(matches.apply(self.ngrams.probs(rows[:2]), self.bigram_strengths))
            experts.append(matches.apply(experts[0], strengths))
        if self.contexts:
            experts += self.contexts.probs(experts[-1])
        log_probs: FloatArray = np.log(np.stack(experts))
        return log_probs


class NumpyNgrams:
    """Which contexts at the end of the text occur in the training text, and the n-gram distributions after them.

    Attributes:
        rows: the rows of these contexts in the table, from the shortest, which is empty, to the longest.
        totals: the total count after the context of each row, as in `BackoffTable`.
    """

    def __init__(self, prior: KneserNey, max_context: int) -> None:
        table: BackoffTable = prior.table
        self.vocab_size, self.max_context = prior.vocab_size, max_context
        self.keys = [prior.get_buffer(f"keys_{length}").numpy() for length in range(2, prior.params.ngram_order)]
        self.first_rows, self.dense_levels = table.first_rows.tolist(), table.dense_levels
        self.offsets, self.tokens, self.entries = table.offsets.numpy(), table.tokens.numpy(), table.probs.numpy()
        self.backoff_weights, self.totals = table.backoff_weights.numpy(), table.totals.numpy()
        self.dense = table.dense.numpy()
        self.contexts: list[int] = []  # ids of the contexts of 1, 2, … tokens that end the text
        self.rows = self.first_rows[:1]

    def append(self, token: int) -> None:
        """Append a token to the text."""
        longer = [token]
        for keys, context in zip(self.keys[: self.max_context - 1], self.contexts, strict=False):
            key = context * self.vocab_size + token
            index = int(keys.searchsorted(key))
            if index == len(keys) or keys[index] != key:
                break
            longer.append(index)
        self.contexts = longer
        self.rows = [first + context for first, context in zip(self.first_rows, (0, *longer), strict=False)]

    def probs(self, rows: list[int]) -> FloatArray:
        """Return the distribution after contexts of 0, 1, … tokens with the given rows, (V,)."""
        probs: FloatArray = self.dense[rows[: self.dense_levels][-1]]
        for row in rows[self.dense_levels :]:
            start, end = self.offsets[row : row + 2]
            probs = probs * self.backoff_weights[row]
            probs[self.tokens[start:end]] += self.entries[start:end]
        return probs


class NumpyCacheLM:
    """The cache language model of the last `size` tokens, for contexts of `num_lengths` lengths."""

    def __init__(self, size: int, num_lengths: int) -> None:
        self.size, self.num_lengths, self.max_context = size, num_lengths, MIN_CONTEXT + num_lengths - 1
        self.limits = np.arange(1, self.max_context + 1, dtype=np.uint8)
        self.ids = np.zeros(0, np.int64)
        self.match_lengths = np.zeros(0, np.uint8)  # see `TorchCacheLM`

    def append(self, token: int) -> None:
        """Append a token to the text."""
        matches = np.ones(len(self.ids), np.uint8)
        matches[1:] += self.match_lengths
        matches *= self.ids == token
        self.ids = np.append(self.ids, token)
        if len(self.ids) > self.size:  # evict the oldest token; no context may begin before the second oldest
            self.ids, matches = self.ids[1:], matches[1:]
            np.minimum(matches[: self.max_context], self.limits[: len(matches)], out=matches[: self.max_context])
        self.match_lengths = np.minimum(matches, self.max_context)

    def find_matches(self) -> "Matches":
        """Return the earlier positions that match the end of the text."""
        positions = np.flatnonzero(self.match_lengths >= MIN_CONTEXT)
        lengths = self.match_lengths[positions]
        counts = np.bincount(lengths, minlength=self.max_context + 1)
        counts = counts[::-1].cumsum()[::-1][MIN_CONTEXT:]
        return Matches(lengths, self.ids[positions + 1], counts.astype(np.float32))


@dataclass(frozen=True)
class Matches:
    """Earlier positions of a text that match its last MIN_CONTEXT or more tokens.

    Attributes:
        lengths: how many tokens match, (matches,).
        followers: the token after each match, (matches,).
        counts: matches of at least MIN_CONTEXT, MIN_CONTEXT + 1, … tokens.
    """

    lengths: IntArray
    followers: IntArray
    counts: FloatArray

    def apply(self, probs: FloatArray, strengths: FloatArray) -> FloatArray:
        """Return the distribution of the cache language model, (V,), as `TorchCacheLM.apply` does."""
        if not len(self.followers):
            return probs
        totals = self.counts[: len(strengths)] + strengths
        backoff_weights = (strengths / totals)[::-1].cumprod()[::-1]
        match_weights = (np.append(backoff_weights[1:], np.float32(1)) / totals).cumsum()
        weights = match_weights[np.minimum(self.lengths, len(strengths) + MIN_CONTEXT - 1) - MIN_CONTEXT]
        adapted: FloatArray = probs * backoff_weights[0] + _count(self.followers, weights, len(probs))
        return adapted


class NumpyWordLineContexts:
    """The word and line contexts of the text, and the distributions of what followed them."""

    def __init__(self, index: ContextIndex, size: int) -> None:
        self.size = size
        self.word_numbers, starts_word, ends_line = index.token_classes.tolist()
        self.starts_word, self.ends_line = [bool(flag) for flag in starts_word], [bool(flag) for flag in ends_line]
        self.keys, self.ends, self.followers = (getattr(index, name).numpy() for name in ("keys", "ends", "followers"))
        self.ranges = np.arange(len(CONTEXT_KINDS) * CONTEXTS_PER_KIND) * KEY_RANGE
        # The latest word first, and PRIME^n after n of its tokens; the first word lacks its separator, which counts.
        self.words, self.power = [0, 0, 0], PRIME
        self.start = self.start_above = 0  # where the line of the next token and the line above it begin
        self.length = 0
        self.tokens: deque[int] = deque()  # the last `size`
        self.contexts: deque[list[int]] = deque()  # the keys at each of them
        # For each kind and length of context: what followed the contexts with a key, the latest last.
        self.seen: list[dict[int, deque[int]]] = [defaultdict(deque) for _ in self.ranges]

    def append(self, token: int) -> None:
        """Append a token to the text."""
        if self.starts_word[token]:
            if self.words[0]:
                self.words = [0, *self.words[:2]]
            self.power = 1
        self.words[0] = _wrap(self.words[0] + self.word_numbers[token] * self.power)
        self.power = _wrap(self.power * PRIME)
        self.tokens.append(token)
        self.length += 1
        if self.ends_line[token]:
            self.start, self.start_above = self.length, self.start
        above = self.start_above + self.length - self.start
        keys = self._hash(token, self._token_at(above), self._token_at(above + 1))
        if self.contexts:
            for seen, key in zip(self.seen, self.contexts[-1], strict=True):
                seen[key].append(token)
        self.contexts.append(keys)
        if len(self.tokens) > self.size:
            self.tokens.popleft()
            for seen, key in zip(self.seen, self.contexts.popleft(), strict=True):
                seen[key].popleft()
                if not seen[key]:
                    del seen[key]

    def probs(self, below: FloatArray) -> list[FloatArray]:
        """Return the distributions of each kind of context, (V,) each, which back off to `below`; see `back_off`."""
        keys = self.contexts[-1]
        rows = self.keys.searchsorted(self.ranges + keys).tolist()
        kinds, probs = [], below
        for index, (key, row) in enumerate(zip(keys, rows, strict=True)):
            if index % CONTEXTS_PER_KIND == 0:
                probs = below
            followers = list(islice(reversed(self.seen[index].get(key, ())), MAX_OCCURRENCES))
            if row < len(self.keys) and self.keys[row] == key + self.ranges[index]:
                end = int(self.ends[row])
                begin = max(int(self.ends[row - 1]) if row else 0, end - MAX_OCCURRENCES + len(followers))
                followers += self.followers[begin:end].tolist()
            if followers:
                total = len(followers) + BACKOFF_STRENGTH
                probs = probs * (BACKOFF_STRENGTH / total) + _count(followers, None, len(below)) / total
            if index % CONTEXTS_PER_KIND == CONTEXTS_PER_KIND - 1:
                kinds.append(probs)
        return kinds

    def _token_at(self, position: int) -> int:
        """Return the token of the line above at a position, or -1 if that is not above or not kept."""
        index = position - (self.length - len(self.tokens))
        return self.tokens[index] if index >= 0 and position < self.start else -1

    def _hash(self, token: int, above: int, above_next: int) -> list[int]:
        """Return the keys of the contexts that end the text; see `hash_contexts`."""
        one_word = _extend_hash(_extend_hash(self.words[0], self.words[1]), -1 if self.words[0] else token)
        one_above = _extend_hash(above, token)
        keys = (one_word, _extend_hash(one_word, self.words[2]), one_above, _extend_hash(one_above, above_next))
        return [_wrap((key ^ key >> 29) * MULTIPLIER) >> 32 for key in keys]


def _extend_hash(key: int, value: int) -> int:
    """Return the key of a context that is longer by a value."""
    return _wrap((_wrap((key ^ key >> 31) * MULTIPLIER) + value + 1) * PRIME)


def _wrap(number: int) -> int:
    """Return a number modulo 2^64, from -2^63 to 2^63 - 1, as PyTorch computes."""
    return (number + (1 << 63) & (1 << 64) - 1) - (1 << 63)


def _count(tokens: IntArray | list[int], weights: FloatArray | None, vocab_size: int) -> FloatArray:
    """Return the sum of the weights of each token, (V,) float32; without weights, how often each occurs."""
    counts: FloatArray = np.bincount(tokens, weights, vocab_size).astype(np.float32)
    return counts
