"""Biases for the greatest mIoU: every step against trying all, and planted biases found again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.metrics.balance import REACH, STEP, _best_shift, balancing_biases, mean_iou_of_scores


def some_pixels(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something of their labels, of which the first class is the most frequent."""
    random = np.random.default_rng(seed)
    labels = np.minimum(random.geometric(0.5, count) - 1, classes - 1)
    logits = random.normal(size=(count, classes)) + 1.2 * (np.arange(classes) == labels[:, None])
    return logits.astype(np.float32), labels


def miou_by_sets(predicted: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The mean IoU of the classes that occur, from the definition."""
    scores = []
    for number in range(classes):
        ours, truth = set(np.flatnonzero(predicted == number)), set(np.flatnonzero(labels == number))
        if ours | truth:
            scores.append(len(ours & truth) / len(ours | truth))
    return float(np.mean(scores))


@given(count=st.integers(1, 60), classes=st.integers(2, 5), seed=st.integers(0, 999))
def test_the_score_is_the_mean_iou(count, classes, seed):
    logits, labels = some_pixels(count, classes, seed)
    assert mean_iou_of_scores(logits, labels) == pytest.approx(miou_by_sets(logits.argmax(1), labels, classes))


@given(count=st.integers(1, 60), classes=st.integers(2, 5), seed=st.integers(0, 999))
def test_the_best_shift_of_a_class_is_that_of_trying_all(count, classes, seed):
    logits, labels = some_pixels(count, classes, seed)
    number = seed % classes
    score, shift = _best_shift(logits, labels, number)
    moved = logits.copy()
    tried = []
    for candidate in np.arange(-REACH, REACH + STEP / 2, STEP):
        moved[:, number] = logits[:, number] + np.float32(candidate)
        tried.append(miou_by_sets(moved.argmax(1), labels, classes))
    assert score == pytest.approx(max(tried))
    moved[:, number] = logits[:, number] + shift
    assert miou_by_sets(moved.argmax(1), labels, classes) == pytest.approx(score)


def test_a_rare_class_that_cross_entropy_gives_up_is_favoured():
    random = np.random.default_rng(0)
    labels = (random.random(40_000) < 0.1).astype(int)
    evidence = random.normal(size=40_000) + 1.5 * labels
    # The log-odds of a network that is right about probabilities.
    odds = 1.5 * evidence - 1.125 + np.log(0.1 / 0.9)
    logits = np.stack([-odds / 2, odds / 2], 1).astype(np.float32)
    biases = balancing_biases(logits, labels)
    assert 0.5 < biases[1] - biases[0] < 2.0  # its best threshold lies below one half
    assert mean_iou_of_scores(logits + biases, labels) > mean_iou_of_scores(logits, labels) + 0.03


def test_planted_biases_are_found_again():
    random = np.random.default_rng(1)
    logits = 3 * random.normal(size=(30_000, 4)).astype(np.float32)
    planted = np.array([1.0, -0.5, 0.0, -0.5], np.float32)
    found = balancing_biases(logits, (logits + planted).argmax(1))
    np.testing.assert_allclose(found, planted, atol=0.06)


def test_nothing_is_added_where_all_is_right():
    logits, _ = some_pixels(500, 4, seed=3)
    np.testing.assert_array_equal(balancing_biases(logits, logits.argmax(1)), 0)


@pytest.mark.parametrize(("logits", "labels"), [((0, 3), (0,)), ((5, 1), (5,)), ((5, 3), (4,))])
def test_what_cannot_be_balanced_is_refused(logits, labels):
    with pytest.raises(ValueError, match="N >= 1 and K >= 2"):
        balancing_biases(np.zeros(logits, np.float32), np.zeros(labels, np.int64))
