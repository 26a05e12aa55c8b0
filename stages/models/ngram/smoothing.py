"""Turn n-gram counts into probabilities by interpolated modified Kneser–Ney smoothing (Chen & Goodman 1999)."""

import numpy as np

from stages.models.ngram.backoff_table import BackoffTable, BackoffTableBuilder
from stages.models.ngram.counts import FloatArray, IntArray, NgramLevel

UNIGRAM_DISCOUNTS = np.array([0.0, 0.5, 0.5, 0.5])
MAX_DENSE_ENTRIES = 1 << 20  # numbers in the dense part of the table, 4 bytes each: a limit for speed only


def build_backoff_table(levels: list[NgramLevel], vocab_size: int) -> BackoffTable:
    """Return a table with one row of probabilities for each context in `levels`."""
    builder = BackoffTableBuilder(vocab_size, MAX_DENSE_ENTRIES)
    for index, level in enumerate(levels):
        counts_of_counts = np.bincount(np.minimum(level.counts, 5), minlength=6)[1:5]
        discounts = level_discounts(index, counts_of_counts)
        builder.add_level(
            num_rows=len(level.children) - 1,
            entry_rows=level.keys // vocab_size,
            tokens=level.keys % vocab_size,
            counts=level.counts,
            discounts=discounts[np.minimum(level.counts, 3)],
            backoff_rows=_backoff_rows(levels, index, builder.first_rows),
        )
    return builder.build()


def level_discounts(context_length: int, counts_of_counts: IntArray) -> FloatArray:
    """Return the discounts of counts 0, 1, 2 and 3 or more after contexts of a length; see `modified_discounts`.

    After the empty context the discount is 0.5.
    """
    return modified_discounts(counts_of_counts) if context_length else UNIGRAM_DISCOUNTS


def modified_discounts(counts_of_counts: IntArray) -> FloatArray:
    """Return the discounts of counts 0, 1, 2 and 3 or more (Chen & Goodman 1999, section 4.1).

    Args:
        counts_of_counts: number of n-grams with a count of exactly 1, 2, 3 and 4, (…, 4).

    Returns:
        discounts, (…, 4): 0 for count 0; the others are positive and at most 1, 2 and 3.
    """
    n1, n2, n3, n4 = np.moveaxis(np.maximum(counts_of_counts, 1).astype(np.float64), -1, 0)
    y = n1 / (n1 + 2 * n2)
    discounts = np.stack((1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3), axis=-1)
    # For a small text the formulas can be zero or negative, which would give unseen tokens no probability.
    discounts = np.where(discounts > 0, discounts, y[..., None]).clip(max=[1, 2, 3])
    return np.concatenate((np.zeros_like(discounts[..., :1]), discounts), axis=-1)


def _backoff_rows(levels: list[NgramLevel], index: int, first_rows: list[int]) -> IntArray:
    """Return, for each context of `index` tokens, the row of the context without its first token."""
    if index == 0:
        return np.zeros(1, np.int64)
    return first_rows[index - 1] + (levels[index - 1].suffix if index > 1 else np.zeros(len(levels[0].keys), np.int64))
