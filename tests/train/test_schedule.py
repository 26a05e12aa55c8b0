import pytest

from stages.train.schedule import lr_factor, muon_momentum


def test_the_rate_warms_up_stays_and_decays_to_almost_nothing():
    factors = [lr_factor(step, 100, 10, 0.5) for step in range(100)]
    assert factors[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert factors[9:51] == [1.0] * 42
    assert factors[75] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.02)


@pytest.mark.parametrize(("warmup", "decay"), [(0, 0.0), (0, 1.0), (200, 0.0), (50, 1.0)])
def test_the_rate_is_never_zero_nor_above_the_full_one(warmup, decay):
    assert all(0 < lr_factor(step, 100, warmup, decay) <= 1 for step in range(100))


def test_momentum_rises_and_stays():
    assert [muon_momentum(step) for step in (0, 150, 300, 1000)] == pytest.approx([0.85, 0.9, 0.95, 0.95])
