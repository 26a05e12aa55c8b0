"""Interpolated modified Kneser–Ney as the paper writes it, with dictionaries: slow and obvious."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Gram = tuple[int, ...]


def kneser_ney(texts: Sequence[Sequence[int]], vocab_size: int, order: int) -> Callable[[Gram], NDArray[np.float64]]:
    """Count the texts, n-grams not running from one into the next; return context -> distribution."""
    grams: dict[int, Counter[Gram]] = {length: Counter() for length in range(1, order + 1)}
    for text in texts:
        for length in range(1, order + 1):
            grams[length].update(tuple(text[i : i + length]) for i in range(len(text) - length + 1))
    return from_counts(grams, vocab_size, order)


def from_counts(grams: dict[int, Counter[Gram]], vocab_size: int, order: int) -> Callable[[Gram], NDArray[np.float64]]:
    counts = {order: grams[order]}
    for length in range(1, order):
        counts[length] = Counter(gram[1:] for gram in grams[length + 1])
    after: dict[int, dict[Gram, dict[int, int]]] = {}
    cut: dict[int, list[float]] = {}
    for length, table in counts.items():
        after[length] = defaultdict(dict)
        for gram, count in table.items():
            after[length][gram[:-1]][gram[-1]] = count
        seen = Counter(table.values())
        n1, n2, n3, n4 = (max(1, seen[value]) for value in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        formulas = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        cut[length] = [0.0, *(min(value if value > 0 else y, high) for high, value in enumerate(formulas, 1))]
    cut[1] = [0.0, 0.5, 0.5, 0.5]

    def distribution(context: Gram) -> NDArray[np.float64]:
        context = context[max(0, len(context) - order + 1) :]
        p = np.full(vocab_size, 1 / vocab_size)
        for length in range(1, len(context) + 2):
            followers = after[length].get(context[len(context) - length + 1 :])
            if followers:
                total = sum(followers.values())
                p = p * sum(cut[length][min(count, 3)] for count in followers.values()) / total
                for character, count in followers.items():
                    p[character] += (count - cut[length][min(count, 3)]) / total
        return p

    return distribution
