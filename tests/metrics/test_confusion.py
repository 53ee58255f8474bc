"""Confusion counts against a pixel-by-pixel loop and torchmetrics; scores against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_confusion_matrix

from featherseg.metrics.confusion import (
    class_accuracy,
    confusion_matrix,
    frequency_weighted_iou,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
)


@st.composite
def labelled_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """A truth with ignored pixels, a prediction and K; narrow id ranges make absent classes likely."""
    classes = draw(st.integers(1, 6))
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    ids = st.integers(0, draw(st.integers(0, classes - 1)))
    size = height * width
    truth = draw(st.lists(st.one_of(ids, st.just(255)), min_size=size, max_size=size))
    prediction = draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
    shape = (height, width)
    return np.array(truth, np.uint8).reshape(shape), np.array(prediction, np.uint8).reshape(shape), classes


def loop_counts(truth: np.ndarray, prediction: np.ndarray, classes: int) -> list[list[int]]:
    counts = [[0] * classes for _ in range(classes)]
    for true, predicted in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if true != 255:
            counts[true][predicted] += 1
    return counts


@given(labelled_pairs())
def test_counts_equal_a_loop_over_pixels(pair):
    matrix = confusion_matrix(*pair)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == loop_counts(*pair)


@settings(max_examples=30)
@given(labelled_pairs())
def test_counts_equal_torchmetrics(pair):
    truth, prediction, classes = pair
    if classes < 2:
        classes = 2
    theirs = multiclass_confusion_matrix(
        torch.from_numpy(prediction.astype(np.int64)),
        torch.from_numpy(truth.astype(np.int64)),
        num_classes=classes,
        ignore_index=255,
    )
    assert confusion_matrix(truth, prediction, classes).tolist() == theirs.tolist()


@given(labelled_pairs(), st.sampled_from(["both", "truth"]))
def test_iou_equals_sets_of_pixels(pair, absent):
    truth, prediction, classes = pair
    kept = [i for i, true in enumerate(truth.ravel()) if true != 255]
    ious = iou_per_class(confusion_matrix(*pair), absent)
    for cls in range(classes):
        true = {i for i in kept if truth.ravel()[i] == cls}
        predicted = {i for i in kept if prediction.ravel()[i] == cls}
        left_out = not (true | predicted) if absent == "both" else not true
        if left_out:
            assert math.isnan(ious[cls])
        else:
            assert ious[cls] == pytest.approx(len(true & predicted) / len(true | predicted), abs=1e-15)


@given(labelled_pairs())
def test_accuracies_equal_their_definitions(pair):
    truth, prediction, classes = pair
    kept = [(t, p) for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True) if t != 255]
    matrix = confusion_matrix(*pair)
    if not kept:
        assert math.isnan(pixel_accuracy(matrix))
        assert math.isnan(frequency_weighted_iou(matrix))
        return
    assert pixel_accuracy(matrix) == pytest.approx(sum(t == p for t, p in kept) / len(kept))
    weighted = 0.0
    for cls in range(classes):
        of_class = [p for t, p in kept if t == cls]
        recall = class_accuracy(matrix)[cls]
        if not of_class:
            assert math.isnan(recall)
            continue
        assert recall == pytest.approx(of_class.count(cls) / len(of_class))
        union = sum(cls in pair for pair in kept)
        weighted += len(of_class) / len(kept) * of_class.count(cls) / union
    assert frequency_weighted_iou(matrix) == pytest.approx(weighted)


def test_a_class_only_predicted_counts_unless_the_rule_looks_at_the_truth_alone():
    matrix = confusion_matrix(np.array([0, 0, 0, 0], np.uint8), np.array([0, 0, 0, 1], np.uint8), 3)
    assert mean_iou(matrix) == pytest.approx((0.75 + 0.0) / 2)
    assert mean_iou(matrix, absent="truth") == pytest.approx(0.75)


def test_an_image_with_every_pixel_ignored_has_no_score():
    matrix = confusion_matrix(np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8), 3)
    assert matrix.sum() == 0
    assert math.isnan(mean_iou(matrix))


def test_scores_of_a_stack_of_matrices_equal_the_scores_of_each():
    stack = np.random.default_rng(0).integers(0, 3, (5, 4, 4))
    assert np.array_equal(iou_per_class(stack), np.stack([iou_per_class(m) for m in stack]), equal_nan=True)


def test_counts_beyond_32_bits_stay_exact():
    matrix = np.array([[2**40 + 1, 1], [0, 2**40]])
    assert iou_per_class(matrix)[0] == (2**40 + 1) / (2**40 + 2)


def test_a_prediction_of_wider_integers_gives_the_same_counts():
    truth, prediction = np.array([0, 1, 2, 255], np.uint8), np.array([0, 2, 2, 1], np.int64)
    assert confusion_matrix(truth, prediction, 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_ignore_may_be_a_low_id():
    truth, prediction = np.array([0, 1, 1], np.uint8), np.array([1, 1, 0], np.uint8)
    assert confusion_matrix(truth, prediction, 2, ignore=0).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("truth", "prediction", "named"),
    [
        ([0, 11, 12], [0, 0, 0], r"truth holds ids \[11, 12\]"),
        ([0, 1, 2], [0, 77, 0], r"prediction holds ids \[77\]"),
        ([0, 255, 2], [0, 255, 0], r"prediction holds ids \[255\]"),
    ],
)
def test_ids_out_of_range_are_refused_by_name(truth, prediction, named):
    with pytest.raises(ValueError, match=named):
        confusion_matrix(np.array(truth, np.uint8), np.array(prediction, np.uint8), 11)


def test_ids_no_byte_can_hold_are_refused_instead_of_wrapped():
    with pytest.raises(ValueError, match=r"prediction holds ids \[-1, 256\]"):
        confusion_matrix(np.zeros(3, np.uint8), np.array([0, 256, -1]), 11)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="shape"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 11)
