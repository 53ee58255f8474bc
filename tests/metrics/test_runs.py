"""Runs of equal pixels: nothing is lost, and counts by runs are those by pixels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featherseg.metrics.confusion import confusion_matrix
from featherseg.metrics.runs import DENSEST, runs

STRETCHES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 40)), min_size=1, max_size=30)


def maps(stretches: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = [length for _, _, length in stretches]
    first, second = (np.repeat([stretch[i] for stretch in stretches], lengths).astype(np.uint8) for i in (0, 1))
    return first, second


@given(STRETCHES)
def test_repeating_each_run_gives_the_maps_again(stretches) -> None:
    first, second = maps(stretches)
    found = runs(first, second)
    if found is None:
        changes = 1 + np.count_nonzero((np.diff(first.astype(int)) != 0) | (np.diff(second.astype(int)) != 0))
        assert changes * DENSEST > first.size
        return
    starts, lengths = found
    np.testing.assert_array_equal(np.repeat(first[starts], lengths), first)
    np.testing.assert_array_equal(np.repeat(second[starts], lengths), second)
    assert len(starts) <= len(stretches)


@given(STRETCHES)
def test_a_confusion_matrix_is_the_same_by_runs_and_by_pixels(stretches) -> None:
    truth, prediction = maps(stretches)
    expected = np.zeros((3, 3), np.int64)
    for pair in zip(truth.tolist(), prediction.tolist(), strict=True):
        expected[pair] += 1
    np.testing.assert_array_equal(confusion_matrix(truth, prediction, 3), expected)


def test_no_pixels_have_no_runs() -> None:
    assert runs(np.zeros(0, np.uint8)) is None
