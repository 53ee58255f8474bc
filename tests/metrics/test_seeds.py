"""Differences between trainings: against tables of Student's distribution and a hand-worked example."""

import pytest

from featherseg.metrics.seeds import mean_difference, student_t_quantile


# Fisher and Yates, Statistical Tables, table III.
@pytest.mark.parametrize(
    ("probability", "freedom", "t"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 4, 2.776),
        (0.975, 7, 2.365),
        (0.975, 10, 2.228),
        (0.975, 30, 2.042),
        (0.95, 5, 2.015),
        (0.995, 6, 3.707),
        (0.5, 4, 0.0),
    ],
)
def test_quantiles_are_those_of_the_tables(probability: float, freedom: int, t: float) -> None:
    assert student_t_quantile(probability, freedom) == pytest.approx(t, abs=5e-4)


def test_a_hand_worked_difference() -> None:
    # Means 62 and 60, variances 1 and 1, pooled 1, error sqrt(2 / 3), t(0.975, 4) = 2.7764.
    found = mean_difference([61.0, 62.0, 63.0], [59.0, 60.0, 61.0])
    assert found.difference == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2 - 2.26695, 2 + 2.26695), abs=1e-4)
    assert not found.exceeds_noise


def test_a_difference_far_beyond_the_spread_exceeds_the_noise() -> None:
    assert mean_difference([50.0, 50.1, 49.9], [60.0, 60.1, 59.9]).exceeds_noise


def test_one_seed_a_side_is_refused() -> None:
    with pytest.raises(ValueError, match="two scores or more"):
        mean_difference([1.0], [2.0, 3.0])
