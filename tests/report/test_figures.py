import numpy as np
import pandas as pd
import pytest

from stages.report.figures import average_by_position


def test_losses_are_averaged_in_bins_and_the_last_position_is_not_alone():
    table = pd.DataFrame({"position": range(1, 2049), "val_loss": [1.0] * 2047 + [9.0], "tokens": 54})
    positions, losses = average_by_position(table)
    assert positions[0] == 1
    assert np.all(np.diff(positions) > 0)
    assert len(positions) == 45 - 6  # 1, 2, 3, 5, 6 and 9 are empty
    assert positions[-1] == pytest.approx((1723 + 2048) / 2, abs=1)
    assert losses[-1] == pytest.approx(1 + 8 / (2048 - 1722))


def test_a_position_counts_as_often_as_it_was_predicted():
    table = pd.DataFrame({"position": [15, 16], "val_loss": [1.0, 2.0], "tokens": [3, 1]})
    positions, losses = average_by_position(table)
    assert (positions.tolist(), losses.tolist()) == ([15.25], [1.25])
