import numpy as np
import pytest

from stages.models.ngram.smoothing import level_discounts, modified_discounts


def test_discounts_follow_the_formula_of_chen_and_goodman():
    n1, n2, n3, n4 = 100, 40, 20, 12
    y = n1 / (n1 + 2 * n2)
    expected = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    assert modified_discounts(np.array([n1, n2, n3, n4])) == pytest.approx(expected)
    assert expected[1] < expected[2] < expected[3]
    assert level_discounts(0, np.array([n1, n2, n3, n4])) == pytest.approx([0, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("counts_of_counts", [[0, 0, 0, 0], [1, 5, 9, 30], [3, 0, 0, 0]])
def test_discounts_of_small_texts_leave_probability_for_unseen_tokens(counts_of_counts):
    discounts = modified_discounts(np.array(counts_of_counts))
    assert discounts[0] == 0
    assert all(0 < discount <= count for count, discount in enumerate(discounts[1:], 1))
