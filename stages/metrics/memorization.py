"""How much of a text stands, letter by letter, in the training text: whether a model writes or recites.

Windows are compared by a polynomial hash modulo 2^64 of their code points: for a million windows against ten thousand,
the chance that any two different ones are taken for equal is below one in a billion. Memory does not grow with the
training text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.models.ngram.counts import Ints
from stages.tokenizers.base import Points, Tokenizer, code_points

WINDOW = 20
CHUNK = 1 << 22
MOST_TOKENS = 4  # that a character may take: bytes of UTF-8
BASE = np.uint64(0x9E3779B97F4A7C15)

Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Copied:
    """`share`: the part of all windows of WINDOW characters that occur in the training text; `longest`: characters in
    the longest run that does; `marks`: for each text, which of its characters lie in such a window.
    """

    share: float
    longest: int
    marks: list[Bools]


@dataclass(frozen=True)
class Known:
    """A text to look others up in: its ids, (N,), and whose they are. It is decoded piece by piece."""

    ids: Ints
    tokenizer: Tokenizer

    def chunks(self, length: int) -> Iterator[Points]:
        """Give its code points in chunks that overlap, so that every window of `length` characters is in one."""
        overlap = MOST_TOKENS * length
        for start in range(0, max(1, len(self.ids) - overlap), CHUNK):
            yield self.tokenizer.points(self.ids[start : start + CHUNK + overlap])


def copied(texts: Sequence[str], known: Known) -> Copied:
    """Look texts up in the training text."""
    points = [code_points(text) for text in texts]
    found = occurring(points, known, WINDOW)
    total = sum(map(len, found))
    marks = [covered(each, len(text)) for each, text in zip(found, texts, strict=True)]
    share = sum(int(each.sum()) for each in found) / total if total else 0.0
    return Copied(share, longest(points, known, found), marks)


def longest(texts: Sequence[Points], known: Known, found: list[Bools]) -> int:
    """Give the length of the longest run that occurs; where one does, all shorter ones do, so by halving."""
    low, high = 0, WINDOW - 1
    if any(each.any() for each in found):
        low, high = WINDOW, WINDOW - 1 + max(map(longest_run, found))
    while low < high:
        middle = (low + high + 1) // 2
        if any(each.any() for each in occurring(texts, known, middle)):
            low = middle
        else:
            high = middle - 1
    return low


def occurring(texts: Sequence[Points], known: Known, length: int) -> list[Bools]:
    """Say, for each text, which of its windows of `length` characters occur in the training text."""
    hashes = [window_hashes(text, length) for text in texts]
    wanted = np.unique(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    seen = np.zeros(len(wanted), bool)
    for chunk in known.chunks(length):
        if len(wanted):
            there = window_hashes(chunk, length)
            at = np.minimum(np.searchsorted(wanted, there), len(wanted) - 1)
            seen[at[wanted[at] == there]] = True
    return [seen[np.searchsorted(wanted, each)] for each in hashes]


def window_hashes(ids: Ints, length: int) -> Hashes:
    """Hash every window of `length` numbers, (N - length + 1,), from the hashes of windows of powers of two."""
    count = max(0, len(ids) - length + 1)
    part, size = ids.astype(np.uint64) + np.uint64(1), 1
    total, done, rest = np.zeros(count, np.uint64), 0, length
    while rest and count:
        if rest & 1:
            total = total * _power(size) + part[done : done + count]
            done += size
        rest >>= 1
        if rest:
            part, size = part[:-size] * _power(size) + part[size:], 2 * size
    return total


def covered(found: Bools, length: int) -> Bools:
    """Mark the characters of a text, of `length`, that lie in a window that was found."""
    steps = np.zeros(length + 1, np.int64)
    starts = np.flatnonzero(found)
    np.add.at(steps, starts, 1)
    np.add.at(steps, starts + WINDOW, -1)
    return np.asarray(steps.cumsum()[:-1] > 0)


def longest_run(values: Bools) -> int:
    """Count the longest run of True."""
    ends = np.flatnonzero(np.diff(np.concatenate(([0], values.astype(np.int8), [0]))))
    return int((ends[1::2] - ends[::2]).max(initial=0))


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(BASE), exponent, 1 << 64))
