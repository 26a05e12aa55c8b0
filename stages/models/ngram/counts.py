"""Counting n-grams, sparsely: a trie whose nodes are numbered in sorted order, level by level.

The id of an n-gram is the rank of `id of its first n - 1 characters * V + last character` among the distinct keys of
its level. So the characters that follow a context lie side by side, sorted; nothing depends on V^n fitting a word; and
a new text is looked up level by level. Memory is proportional to the number of distinct n-grams.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Level:
    """The distinct n-grams of one length.

    Each field but the last two has one entry for each n-gram, in the order of ids.
    """

    keys: Ints  # context id * V + character, sorted
    raw: Ints  # occurrences
    counts: Ints  # occurrences at the longest length, below it distinct characters seen before the n-gram
    suffix: Ints  # id, one level below, of the n-gram without its first character
    children: Ints  # where the n-grams of each context, an n-gram one level below, start; one entry more than contexts
    ids: Ints  # for each position of the text, the id of the n-gram that starts there


def count_ngrams(text: Ints, vocabulary_size: int, order: int) -> list[Level]:
    """Count the n-grams of lengths 1 … order; `levels[n - 1]` holds those of length n.

    Counts below the longest length are continuation counts (Kneser & Ney 1995).
    """
    text = text.astype(np.int64)
    keys: list[Ints] = [np.arange(vocabulary_size)]
    raw: list[Ints] = [np.bincount(text, minlength=vocabulary_size)]
    firsts: list[Ints] = [text]
    ids: list[Ints] = [text]
    for length in range(2, order + 1):
        key = ids[-1][: max(0, len(text) - length + 1)] * np.int64(vocabulary_size) + text[length - 1 :]
        rank, first, count = ranks(key)
        keys.append(key[first])
        raw.append(count)
        firsts.append(first)
        ids.append(rank)
    suffixes = [np.zeros(vocabulary_size, np.int64), *(ids[i - 1][firsts[i] + 1] for i in range(1, order))]
    levels = []
    for level in range(order):
        last = level == order - 1
        counts = raw[level] if last else np.bincount(suffixes[level + 1], minlength=len(keys[level]))
        parents = len(keys[level - 1]) if level else 1
        children = _starts(keys[level] // vocabulary_size, parents)
        levels.append(Level(keys[level], raw[level], counts, suffixes[level], children, ids[level]))
    return levels


def ranks(keys: Ints) -> tuple[NDArray[np.int32], Ints, Ints]:
    """Give each key's rank among the sorted distinct keys, one index of each distinct key, and its count."""
    order = np.argsort(keys)
    ordered = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(new)
    rank = np.empty(len(keys), np.int32)
    rank[order] = np.cumsum(new, dtype=np.int32) - 1
    return rank, order[first], np.diff(first, append=len(keys))


def discounts(counts_of_counts: Ints) -> Floats:
    """Give modified Kneser–Ney's discounts of counts 0, 1, 2 and 3 or more (Chen & Goodman 1999, section 4.1).

    Args:
        counts_of_counts: n-grams with a count of exactly 1, 2, 3 and 4, (…, 4).

    Returns:
        (…, 4), each above 0, but for the first, and at most the count that it is taken from.
    """
    n1, n2, n3, n4 = np.moveaxis(np.maximum(counts_of_counts, 1).astype(np.float64), -1, 0)
    y = n1 / (n1 + 2 * n2)
    steps = np.stack((1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3), axis=-1)
    # A small text can ask for no discount at all, which would make what it does not have impossible.
    steps = np.where(steps > 0, steps, y[..., None]).clip(max=[1, 2, 3])
    return np.concatenate((np.zeros_like(steps[..., :1]), steps), axis=-1)


def concatenate_ranges(starts: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Lay the ranges `starts[i] … starts[i] + lengths[i]` end to end; give each item's i, and the item."""
    owner = np.repeat(np.arange(len(starts)), lengths)
    before = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) + np.repeat(starts - before, lengths)


def _starts(parents: Ints, count: int) -> Ints:
    return np.concatenate(([0], np.bincount(parents, minlength=count).cumsum()))
