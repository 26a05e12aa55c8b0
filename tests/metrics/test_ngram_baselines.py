import math

import numpy as np
import pytest

from stages.metrics.ngram_baselines import PSEUDOCOUNT, bigram_loss, uniform_loss, unigram_loss

TRAIN, VAL = np.array([0, 1, 0, 1, 0, 2]), np.array([0, 1, 0, 0])


def test_uniform_is_the_logarithm_of_the_vocabulary():
    assert uniform_loss(65) == pytest.approx(4.1744, abs=1e-4)


def test_unigram_counts_characters():
    p = [(3 + PSEUDOCOUNT) / (6 + 3 * PSEUDOCOUNT), (2 + PSEUDOCOUNT) / (6 + 3 * PSEUDOCOUNT)]
    assert unigram_loss(TRAIN, VAL, 3) == pytest.approx(-(math.log(p[1]) + 2 * math.log(p[0])) / 3)


def test_bigram_loss_smooths_unseen_pairs():
    after_0, after_1 = 3 + 3 * PSEUDOCOUNT, 2 + 3 * PSEUDOCOUNT
    p = [
        (2 + PSEUDOCOUNT) / after_0,
        (2 + PSEUDOCOUNT) / after_1,
        PSEUDOCOUNT / after_0,
    ]  # 0-1 twice, 1-0 twice, 0-0 never
    assert bigram_loss(TRAIN, VAL, 3) == pytest.approx(-sum(map(math.log, p)) / 3)
