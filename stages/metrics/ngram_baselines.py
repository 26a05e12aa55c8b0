"""What plain counting reaches, so that a reader sees what a model learned beyond it. All in nats per token."""

import math

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
ADDED = 0.01  # to every count, so that what was never seen is unlikely, not impossible


def uniform_loss(vocabulary_size: int) -> float:
    """Give the loss of knowing nothing but the vocabulary: ln V."""
    return math.log(vocabulary_size)


def unigram_loss(train: Ids, val: Ids, vocabulary_size: int) -> float:
    """Give the loss of the training text's token frequencies on every token of `val` but the first."""
    counts = np.bincount(train, minlength=vocabulary_size) + ADDED
    log_probabilities = np.log(counts / counts.sum())
    return float(-log_probabilities[val[1:]].mean())


def bigram_loss(train: Ids, val: Ids, vocabulary_size: int) -> float:
    """Give the loss of the training text's pair frequencies on every token of `val` but the first."""
    pairs, counts = np.unique(train[:-1] * vocabulary_size + train[1:], return_counts=True)
    after = np.bincount(train[:-1], minlength=vocabulary_size) + ADDED * vocabulary_size
    wanted = val[:-1] * vocabulary_size + val[1:]
    found = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[found] == wanted, counts[found], 0) + ADDED
    return float(-np.log(seen / after[val[:-1]]).mean())
