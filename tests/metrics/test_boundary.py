"""Boundary IoU against a literal reading of the definition: one mask at a time, one pixel at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featherseg.metrics.boundary import BoundaryCounts, band_width, boundary_counts


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Blocky truth with ignored pixels, blocky prediction, K, dilation ratio (bands of 1 to about 4 pixels)."""
    classes = draw(st.integers(1, 4))
    height, width, block = draw(st.integers(1, 14)), draw(st.integers(1, 14)), draw(st.integers(1, 5))
    coarse = (-(-height // block), -(-width // block))
    ids = st.integers(0, classes - 1)
    truth = draw(hnp.arrays(np.uint8, coarse, elements=st.one_of(ids, ids, st.just(255))))
    prediction = draw(hnp.arrays(np.uint8, coarse, elements=ids))
    enlarge = np.ones((block, block), np.uint8)
    cut = np.s_[:height, :width]
    ratio = draw(st.sampled_from([0.02, 0.1, 0.2]))
    return np.kron(truth, enlarge)[cut], np.kron(prediction, enlarge)[cut], classes, ratio


def band_of(mask: set[tuple[int, int]], distance: int) -> set[tuple[int, int]]:
    """Pixels of the mask with a pixel outside it (image border included) within the chessboard distance."""
    reach = range(-distance, distance + 1)
    return {(y, x) for y, x in mask if any((y + dy, x + dx) not in mask for dy in reach for dx in reach)}


@settings(max_examples=60)
@given(label_maps())
def test_counts_equal_the_definition_pixel_by_pixel(case):
    truth, prediction, classes, ratio = case
    height, width = truth.shape
    distance = max(1, round(ratio * math.sqrt(height**2 + width**2)))
    judged = [(y, x) for y in range(height) for x in range(width) if truth[y, x] != 255]
    counts = boundary_counts(truth, prediction, classes, dilation_ratio=ratio)
    for cls in range(classes):
        true = band_of({p for p in judged if truth[p] == cls}, distance)
        predicted = band_of({p for p in judged if prediction[p] == cls}, distance)
        assert counts.intersection[cls] == len(true & predicted)
        assert counts.union[cls] == len(true | predicted)


def test_the_band_is_two_percent_of_the_diagonal():
    assert band_width(360, 480) == 12
    assert band_width(1024, 2048) == 46
    assert band_width(5, 5) == 1


def test_a_wrong_interior_costs_less_than_a_wrong_contour():
    truth = np.zeros((100, 100), np.uint8)
    truth[20:80, 20:80] = 1
    shrunk = np.zeros_like(truth)
    shrunk[22:78, 22:78] = 1
    exact = boundary_counts(truth, truth, 2)
    assert exact.mean_iou() == 1.0
    area_iou = 56**2 / 60**2
    assert boundary_counts(truth, shrunk, 2).iou_per_class()[1] < area_iou - 0.3


def test_the_image_border_counts_as_contour():
    whole = np.zeros((50, 50), np.uint8)
    ring = 50**2 - 48**2
    assert boundary_counts(whole, whole, 1).union[0] == ring


def test_counts_of_images_add_up():
    random = np.random.default_rng(3)
    images = [random.integers(0, 3, (2, 9, 7)).astype(np.uint8) for _ in range(3)]
    parts = [boundary_counts(t, p, 3) for t, p in images]
    total = sum(parts, BoundaryCounts.zeros(3))
    assert total.union.tolist() == np.sum([p.union for p in parts], axis=0).tolist()
    assert total.intersection.dtype == total.union.dtype == np.int64


def test_a_class_nowhere_has_no_score():
    flat = np.zeros((8, 8), np.uint8)
    ious = boundary_counts(flat, flat, 2).iou_per_class()
    assert ious[0] == 1.0
    assert math.isnan(ious[1])


def test_an_ignore_id_that_is_a_class_is_refused():
    flat = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="ignore"):
        boundary_counts(flat, flat, 11, ignore=3)
