"""Cross-fitted (out-of-fold) n-gram probabilities for training: counts that predict a position have not seen it.

Counts of a text are overconfident on that text, and a model trained on them would trust them too much. The text is
therefore divided into contiguous folds, and each position uses the counts of all other folds. Nothing is counted
twice: the counts inside a fold are subtracted from those of the whole text, and a fold only has rows for contexts that
occur in it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.models.ngram.backoff_table import BackoffTable, BackoffTableBuilder
from stages.models.ngram.counts import FloatArray, IntArray, NgramLevel, concatenate_ranges, rank_keys, run_starts
from stages.models.ngram.ngram_experts import expert_log_probs
from stages.models.ngram.smoothing import level_discounts

MAX_FOLD_DENSE_ENTRIES = 1 << 21  # numbers in the dense part of the table, 4 bytes each: a limit for speed only


class CrossFittedExperts(nn.Module):
    """The experts' distributions at any position of the training text, from the counts of the other folds.

    Memory of `position_rows`: 4 bytes per token and context length; `ngram_memory.py` estimates all of it.

    Args:
        levels: n-gram counts of the training text.
        vocab_size: V.
        folds: number of folds.
        cache_lm: whether the cache language model is one of the experts.

    Attributes:
        table: rows of all (fold, context) pairs.
        position_rows: the rows that apply at each position, (N, order) int32.
    """

    position_rows: Tensor

    def __init__(self, levels: list[NgramLevel], vocab_size: int, folds: int, cache_lm: bool) -> None:
        super().__init__()
        self.table, position_rows = cross_fit(levels, vocab_size, folds)
        self.register_buffer("position_rows", position_rows, persistent=False)
        self.cache_lm = cache_lm

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return the log-probabilities of each expert, (B, T, experts, V), without context before the window.

        Args:
            ids: windows of the training text, (B, T).
            positions: where in the training text they are, (B, T).
        """
        length, order = ids.shape[1], self.position_rows.shape[1]
        tokens_in_window = torch.arange(1, length + 1, device=ids.device)
        visible = torch.arange(order, device=ids.device) <= tokens_in_window[:, None]
        rows = self.position_rows[positions] * visible
        return expert_log_probs(self.table, rows, ids, self.cache_lm)


def cross_fit(levels: list[NgramLevel], vocab_size: int, folds: int) -> tuple[BackoffTable, Tensor]:
    """Return the rows of all folds, and the rows that apply at each position, (N, order) int32.

    An n-gram belongs to the fold of its last token, the one that is predicted.
    """
    length, order = len(levels[0].ids), len(levels)
    fold_of_position = np.arange(length) * folds // length
    fold_levels: list[FoldRows] = []
    longer: FoldNgrams | None = None
    for index in reversed(range(order)):
        ngrams = FoldNgrams.find(levels, index, fold_of_position, longer)
        fold_levels.insert(0, _fold_rows(levels, index, ngrams, folds, vocab_size))
        longer = ngrams
    builder = BackoffTableBuilder(vocab_size, MAX_FOLD_DENSE_ENTRIES)
    position_rows = np.zeros((length, order), np.int32)
    for index, level in enumerate(fold_levels):
        backoff_rows = (
            builder.first_rows[-1] + fold_levels[index - 1].row_at_position[level.example_position + 1]
            if index
            else np.zeros(len(level.example_position), np.int64)
        )
        builder.add_level(
            len(level.example_position), level.entry_rows, level.tokens, level.counts, level.discounts, backoff_rows
        )
        first_position = max(0, index - 1)  # the first one with `index` tokens of context
        rows = level.row_at_position if index else level.row_at_position[1:]
        position_rows[first_position : length - 1, index] = builder.first_rows[index] + rows
    return builder.build(persistent=False), torch.from_numpy(position_rows)


@dataclass(frozen=True)
class FoldRows:
    """The rows of one context length in all folds, one for each (fold, context) pair.

    Attributes:
        entry_rows, tokens, counts, discounts: the entries, as in `BackoffTableBuilder.add_level`.
        example_position: a position at which the context of each row begins.
        row_at_position: the row of the n-gram that begins at each position.
    """

    entry_rows: IntArray
    tokens: IntArray
    counts: IntArray
    discounts: FloatArray
    example_position: IntArray
    row_at_position: IntArray


@dataclass(frozen=True)
class FoldNgrams:
    """The distinct (fold, n-gram) pairs of one length, sorted.

    Attributes:
        fold: fold of each pair.
        ngram: id of the n-gram of each pair.
        occurrences: how often the n-gram occurs in the fold.
        example_position: a position at which the n-gram begins.
        subtracted: what leaving out the fold subtracts from the count of the n-gram.
        pair_at_position: index of the pair of the n-gram that begins at each position.
    """

    fold: IntArray
    ngram: IntArray
    occurrences: IntArray
    example_position: IntArray
    subtracted: IntArray
    pair_at_position: IntArray

    @classmethod
    def find(
        cls, levels: list[NgramLevel], index: int, fold_of_position: IntArray, longer: "FoldNgrams | None"
    ) -> "FoldNgrams":
        """Return the pairs of n-grams of `index + 1` tokens; `longer` holds those with one token more."""
        level = levels[index]
        size = len(level.keys)
        keys = fold_of_position[index:] * np.int64(size) + level.ids[: len(fold_of_position) - index]
        pair, sample, occurrences = rank_keys(keys)
        subtracted = occurrences
        if longer is not None:  # a longer n-gram that occurs in this fold only: one distinct preceding token less
            in_this_fold_only = longer.occurrences == levels[index + 1].occurrences[longer.ngram]
            suffixes = pair[longer.example_position[in_this_fold_only] + 1]
            subtracted = np.bincount(suffixes, minlength=len(sample))
        fold, ngram = np.divmod(keys[sample], size)
        return cls(fold, ngram, occurrences, sample, subtracted, pair)


def _fold_rows(levels: list[NgramLevel], index: int, ngrams: FoldNgrams, folds: int, vocab_size: int) -> FoldRows:
    level = levels[index]
    context = level.keys[ngrams.ngram] // vocab_size
    is_new = run_starts(ngrams.fold) | run_starts(context)
    row = np.cumsum(is_new) - 1  # the (fold, context) pair of each (fold, n-gram) pair
    starts = level.children[context[is_new]]
    sizes = level.children[context[is_new] + 1] - starts
    entry_rows, entry_ngram = concatenate_ranges(starts, sizes)
    counts = level.counts[entry_ngram]
    first_entry = np.cumsum(sizes) - sizes
    counts[first_entry[row] + ngrams.ngram - level.children[context]] -= ngrams.subtracted
    discounts = _fold_discounts(level, index, ngrams, folds)
    return FoldRows(
        entry_rows=entry_rows,
        tokens=level.keys[entry_ngram] % vocab_size,
        counts=counts,
        discounts=discounts[ngrams.fold[is_new][entry_rows], np.minimum(counts, 3)],
        example_position=ngrams.example_position[is_new],
        row_at_position=row[ngrams.pair_at_position],
    )


def _fold_discounts(level: NgramLevel, index: int, ngrams: FoldNgrams, folds: int) -> FloatArray:
    """Return the discounts of each fold, (folds, 4), from the counts of the other folds."""
    before = np.minimum(level.counts[ngrams.ngram], 5)
    after = np.minimum(level.counts[ngrams.ngram] - ngrams.subtracted, 5)
    counts_of_counts = np.tile(np.bincount(np.minimum(level.counts, 5), minlength=6), (folds, 1))
    for counts, sign in ((before, -1), (after, 1)):
        change = np.bincount(ngrams.fold * 6 + counts, minlength=6 * folds).reshape(folds, 6)
        counts_of_counts += sign * change
    return np.broadcast_to(level_discounts(index, counts_of_counts[:, 1:5]), (folds, 4))
