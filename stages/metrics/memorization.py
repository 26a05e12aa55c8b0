"""Verbatim overlap of a text with the training text: how much a model memorized.

Windows of characters are compared by a polynomial hash of their code points modulo 2^64. For a million windows against
ten thousand, the probability of any collision is below one in a billion. The training text is decoded in chunks, so
memory does not grow with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.tokenizers.base import CodePoints, TokenIds, Tokenizer, text_code_points

WINDOW = 20
CHUNK_TOKENS = 1 << 22
LARGELY_COPIED = 0.8  # share of the validation text; more of it in the training text is worth a warning
MAX_TOKENS_PER_CHARACTER = 4  # bytes of UTF-8
HASH_BASE = np.uint64(0x9E3779B97F4A7C15)

BoolArray = NDArray[np.bool_]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Overlap:
    """The overlap of several texts with the training text.

    Attributes:
        share: share of all windows of WINDOW characters that occur in the training text.
        longest: characters in the longest run that occurs in the training text.
        masks: for each text, which of its characters are in such a window.
    """

    share: float
    longest: int
    masks: list[BoolArray]


@dataclass(frozen=True)
class TrainingText:
    """The training text as token ids, (N,), and the tokenizer that decodes them."""

    ids: TokenIds
    tokenizer: Tokenizer

    def chunks(self, length: int) -> Iterator[CodePoints]:
        """Yield the code points in overlapping chunks, so that each window of `length` characters is in one of them."""
        overlap = MAX_TOKENS_PER_CHARACTER * length
        for start in range(0, max(1, len(self.ids) - overlap), CHUNK_TOKENS):
            yield self.tokenizer.code_points(self.ids[start : start + CHUNK_TOKENS + overlap])


def verbatim_overlap(texts: Sequence[str], training_text: TrainingText) -> Overlap:
    """Return the overlap of `texts` with the training text."""
    code_points = [text_code_points(text) for text in texts]
    matches = matching_windows(code_points, training_text, WINDOW)
    total = sum(map(len, matches))
    masks = [_covered(match, len(text)) for match, text in zip(matches, texts, strict=True)]
    share = sum(int(match.sum()) for match in matches) / total if total else 0.0
    return Overlap(share, _longest_match(code_points, training_text, matches), masks)


def matching_windows(texts: Sequence[CodePoints], training_text: TrainingText, length: int) -> list[BoolArray]:
    """Return, for each text, which of its windows of `length` characters occur in the training text."""
    hashes = [window_hashes(text, length) for text in texts]
    queries = np.unique(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    occurs = np.zeros(len(queries), bool)
    for chunk in training_text.chunks(length):
        if len(queries):
            chunk_hashes = window_hashes(chunk, length)
            indices = np.minimum(np.searchsorted(queries, chunk_hashes), len(queries) - 1)
            occurs[indices[queries[indices] == chunk_hashes]] = True
    return [occurs[np.searchsorted(queries, text_hashes)] for text_hashes in hashes]


def window_hashes(code_points: NDArray[Any], length: int) -> Hashes:
    """Return the hash of every window of `length` numbers, (N - length + 1,).

    The hashes of windows of 1, 2, 4, … numbers are combined according to the binary digits of `length`.
    """
    count = max(0, len(code_points) - length + 1)
    power_hashes, power = code_points.astype(np.uint64) + np.uint64(1), 1
    total, hashed, digits = np.zeros(count, np.uint64), 0, length
    while digits and count:
        if digits & 1:
            total = total * _base_power(power) + power_hashes[hashed : hashed + count]
            hashed += power
        digits >>= 1
        if digits:
            power_hashes = power_hashes[:-power] * _base_power(power) + power_hashes[power:]
            power *= 2
    return total


def longest_run(values: BoolArray) -> int:
    """Return the length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], values.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _longest_match(texts: Sequence[CodePoints], training_text: TrainingText, matches: list[BoolArray]) -> int:
    """Return the length of the longest run that occurs, by binary search: if a run occurs, so do all shorter ones."""
    low, high = 0, WINDOW - 1
    if any(match.any() for match in matches):
        low, high = WINDOW, WINDOW - 1 + max(map(longest_run, matches))
    while low < high:
        middle = (low + high + 1) // 2
        if any(match.any() for match in matching_windows(texts, training_text, middle)):
            low = middle
        else:
            high = middle - 1
    return low


def _covered(matches: BoolArray, length: int) -> BoolArray:
    """Return which of the `length` characters of a text are in a matching window."""
    changes = np.zeros(length + 1, np.int64)
    starts = np.flatnonzero(matches)
    np.add.at(changes, starts, 1)
    np.add.at(changes, starts + WINDOW, -1)
    return np.asarray(changes.cumsum()[:-1] > 0)


def _base_power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(HASH_BASE), exponent, 1 << 64))
