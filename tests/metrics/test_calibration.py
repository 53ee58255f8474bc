"""Expected calibration error against a loop over pixels in exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.metrics.calibration import CalibrationCounts, calibration_counts

pixels = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.75, 1.0])),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


def columns(rows):
    confidence, correct, valid = (np.array(column) for column in zip(*rows, strict=True))
    return confidence.astype(np.float32), correct.astype(bool), valid.astype(bool)


@given(pixels, st.integers(1, 20))
def test_the_error_equals_a_loop_in_exact_fractions(rows, bins):
    confidence, correct, valid = columns(rows)
    members: dict[int, list[tuple[Fraction, bool]]] = {}
    for value, hit, judged in zip(confidence.tolist(), correct.tolist(), valid.tolist(), strict=True):
        if judged:
            exact = Fraction(value)
            index = next(m for m in range(bins) if exact <= Fraction(m + 1, bins))
            members.setdefault(index, []).append((exact, hit))
    counts = calibration_counts(confidence, correct, valid, bins)
    assert counts.pixels.tolist() == [len(members.get(m, [])) for m in range(bins)]
    assert counts.hits.tolist() == [sum(hit for _, hit in members.get(m, [])) for m in range(bins)]
    total = sum(len(bin_) for bin_ in members.values())
    if total == 0:
        assert math.isnan(counts.expected_error())
        return
    error = Fraction(0)
    for bin_ in members.values():
        accuracy = Fraction(sum(hit for _, hit in bin_), len(bin_))
        mean = sum((value for value, _ in bin_), Fraction(0)) / len(bin_)
        error += Fraction(len(bin_), total) * abs(accuracy - mean)
    assert counts.expected_error() == pytest.approx(float(error), abs=1e-12)


@given(pixels, pixels)
def test_parts_counted_apart_add_up_to_the_whole(first, second):
    apart = calibration_counts(*columns(first)) + calibration_counts(*columns(second))
    together = calibration_counts(*columns(first + second))
    assert apart.pixels.tolist() == together.pixels.tolist()
    assert apart.hits.tolist() == together.hits.tolist()
    assert apart.confidence == pytest.approx(together.confidence, abs=1e-12)


def test_confidence_that_is_always_right_as_often_as_it_says_has_no_error():
    counts = calibration_counts(np.full(4, 0.75, np.float32), np.array([True, True, True, False]))
    assert counts.expected_error() == 0.0


def test_overconfidence_is_the_gap():
    counts = calibration_counts(np.full(4, 1.0, np.float32), np.array([True, False, False, False]))
    assert counts.expected_error() == pytest.approx(0.75)
    assert counts.accuracy_per_bin()[-1] == 0.25
    assert math.isnan(counts.confidence_per_bin()[0])


def test_a_confidence_a_rounding_above_one_is_taken_as_one():
    counts = calibration_counts(np.array([1.0000001], np.float32), np.array([True]))
    assert counts.expected_error() == 0.0


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_confidence_that_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match=r"0\.\.1"):
        calibration_counts(np.array([0.5, value], np.float32), np.array([True, True]))


def test_counts_of_other_bins_cannot_be_added():
    with pytest.raises(ValueError, match="bins"):
        CalibrationCounts.zeros(10) + CalibrationCounts.zeros(15)
