"""Losses of uniform, unigram and bigram models, in nats per token, for comparison with a trained model."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.tokenizers.base import TokenIds

PSEUDOCOUNT = 0.01  # added to every count, so that unseen tokens are unlikely but possible


def uniform_loss(vocab_size: int) -> float:
    """Return the loss of a uniform distribution over the vocabulary, ln V."""
    return math.log(vocab_size)


def unigram_loss(train: TokenIds, val: TokenIds, vocab_size: int) -> float:
    """Return the loss of the unigram distribution of `train`, (N,), on all tokens of `val`, (M,), but the first."""
    counts = np.bincount(train, minlength=vocab_size) + PSEUDOCOUNT
    log_probs = np.log(counts / counts.sum())
    return abs(float(log_probs[val[1:]].mean()))  # not -0.0


def bigram_loss(train: TokenIds, val: TokenIds, vocab_size: int) -> float:
    """Return the loss of the bigram distribution of `train`, (N,), on all tokens of `val`, (M,), but the first."""
    train, val = train.astype(np.int64), val.astype(np.int64)
    pairs, counts = np.unique(_pair_ids(train, vocab_size), return_counts=True)
    first_counts = np.bincount(train[:-1], minlength=vocab_size) + PSEUDOCOUNT * vocab_size
    val_pairs = _pair_ids(val, vocab_size)
    indices = np.minimum(np.searchsorted(pairs, val_pairs), len(pairs) - 1)
    pair_counts = np.where(pairs[indices] == val_pairs, counts[indices], 0) + PSEUDOCOUNT
    return abs(float(np.log(pair_counts / first_counts[val[:-1]]).mean()))


def _pair_ids(ids: NDArray[Any], vocab_size: int) -> NDArray[np.int64]:
    pair_ids: NDArray[np.int64] = ids[:-1] * vocab_size + ids[1:]
    return pair_ids
