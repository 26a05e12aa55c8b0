"""Count n-grams sparsely, as a trie whose nodes are numbered in sorted order, level by level.

The id of an n-gram is its rank among the distinct keys of its level, where the key is the id of its first n - 1 tokens
times V plus its last token. The tokens that follow a context are therefore adjacent and sorted, V^n need not fit an
integer, and a new text can be looked up level by level. Memory is proportional to the number of distinct n-grams.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class NgramLevel:
    """The distinct n-grams of one length. All fields but the last two have one entry per n-gram, ordered by id.

    Attributes:
        keys: context id * V + last token, sorted.
        occurrences: how often the n-gram occurs.
        counts: occurrences at the longest length; below it, continuation counts, the number of distinct tokens that
            precede the n-gram (Kneser & Ney 1995).
        suffix: id, one level below, of the n-gram without its first token.
        children: index of the first n-gram of each context (an n-gram one level below), and the total at the end.
        ids: id of the n-gram that begins at each position of the text.
    """

    keys: IntArray
    occurrences: IntArray
    counts: IntArray
    suffix: IntArray
    children: IntArray
    ids: IntArray


def count_ngrams(text: IntArray, vocab_size: int, order: int) -> list[NgramLevel]:
    """Return the n-grams of a text of token ids, (N,), with lengths 1 … order; `levels[n - 1]` has length n."""
    text = text.astype(np.int64)
    keys: list[IntArray] = [np.arange(vocab_size)]
    occurrences: list[IntArray] = [np.bincount(text, minlength=vocab_size)]
    first_positions: list[IntArray] = [text]
    ids: list[IntArray] = [text]
    for length in range(2, order + 1):
        position_keys = ids[-1][: max(0, len(text) - length + 1)] * np.int64(vocab_size) + text[length - 1 :]
        rank, first, count = rank_keys(position_keys)
        keys.append(position_keys[first])
        occurrences.append(count)
        first_positions.append(first)
        ids.append(rank)
    suffixes = [np.zeros(vocab_size, np.int64), *(ids[i - 1][first_positions[i] + 1] for i in range(1, order))]
    levels = []
    for index in range(order):
        is_longest = index == order - 1
        counts = occurrences[index] if is_longest else np.bincount(suffixes[index + 1], minlength=len(keys[index]))
        contexts = len(keys[index - 1]) if index else 1
        children = _first_children(keys[index] // vocab_size, contexts)
        levels.append(NgramLevel(keys[index], occurrences[index], counts, suffixes[index], children, ids[index]))
    return levels


def rank_keys(keys: IntArray) -> tuple[NDArray[np.int32], IntArray, IntArray]:
    """Return the rank of each key among the sorted distinct keys, one index of each distinct key, and its count."""
    order = np.argsort(keys)
    ordered = keys[order]
    is_new = run_starts(ordered)
    first = np.flatnonzero(is_new)
    rank = np.empty(len(keys), np.int32)
    rank[order] = np.cumsum(is_new, dtype=np.int32) - 1
    return rank, order[first], np.diff(first, append=len(keys))


def run_starts(ordered: IntArray) -> NDArray[np.bool_]:
    """Return whether each item of an array differs from the one before it; the first one does."""
    starts = np.ones(len(ordered), bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return starts


def concatenate_ranges(starts: IntArray, lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Concatenate the ranges that begin at `starts` and have `lengths`; return each item's range and the item."""
    range_numbers = np.repeat(np.arange(len(starts)), lengths)
    offsets = np.cumsum(lengths) - lengths
    return range_numbers, np.arange(len(range_numbers)) + np.repeat(starts - offsets, lengths)


def _first_children(contexts: IntArray, count: int) -> IntArray:
    return np.concatenate(([0], np.bincount(contexts, minlength=count).cumsum()))
