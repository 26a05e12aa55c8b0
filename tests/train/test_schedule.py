import pytest

from stages.train.schedule import momentum_rise, trapezoid


def test_trapezoid_rises_stays_and_falls_to_almost_nothing():
    factors = [trapezoid(step, 100, 10, 0.5) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:51] == [1.0] * 42
    assert factors[75] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.02)


@pytest.mark.parametrize(("warmup", "decay"), [(0, 0.0), (0, 1.0), (200, 0.0), (50, 1.0)])
def test_trapezoid_is_never_zero_nor_above_one(warmup, decay):
    assert all(0 < trapezoid(step, 100, warmup, decay) <= 1 for step in range(100))


def test_momentum_rises_and_stays():
    assert [momentum_rise(step) for step in (0, 150, 300, 1000)] == pytest.approx([0.85, 0.9, 0.95, 0.95])
