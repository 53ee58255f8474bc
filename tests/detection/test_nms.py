"""Suppression: the compiled one against the definition, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.detection.nms import nms
from featherseg.errors import FeathersegError


def brute_force(boxes, scores, labels, threshold):
    """The definition, pair by pair, in float64."""
    boxes = boxes.astype(np.float64)
    area = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i)):
        for other in kept:
            if labels[other] != labels[index]:
                continue
            wide = min(boxes[index][2], boxes[other][2]) - max(boxes[index][0], boxes[other][0])
            tall = min(boxes[index][3], boxes[other][3]) - max(boxes[index][1], boxes[other][1])
            shared = max(wide, 0.0) * max(tall, 0.0)
            if shared > threshold * (area[other] + area[index] - shared):
                break
        else:
            kept.append(index)
    return kept


@settings(max_examples=300)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 60),
    grid=st.sampled_from([1.0, 4.0, 0.01, 1e6]),
    shape=st.sampled_from([(30, 30), (300, 3), (3, 300)]),
    side=st.integers(0, 12),
    levels=st.sampled_from([2, 5, 1000]),
    classes=st.integers(1, 4),
    threshold=st.sampled_from([0.0, 0.05, 1 / 3, 0.5, 0.7, 1.0]),
)
def test_it_keeps_what_the_definition_keeps(seed, count, grid, shape, side, levels, classes, threshold):
    """On a grid, so that overlaps of exactly 1/3 and 1/2 and boxes without area occur; few scores, so that ties do."""
    random = np.random.default_rng(seed)
    corner = random.integers(0, shape, (count, 2))
    boxes = (np.concatenate([corner, corner + random.integers(0, side + 1, (count, 2))], 1) * grid).astype(np.float32)
    scores = (random.integers(0, levels, count) / levels).astype(np.float32)
    labels = random.integers(0, classes, count)
    found = nms(boxes, scores, labels, iou=threshold)
    assert found.tolist() == brute_force(boxes, scores, labels, threshold)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), spread=st.sampled_from([10, 100, 1e5]), threshold=st.floats(0.01, 0.99))
def test_it_keeps_what_the_definition_keeps_of_boxes_of_all_sizes(seed, spread, threshold):
    random = np.random.default_rng(seed)
    centre = random.uniform(-spread, spread, (80, 2))
    half = np.exp(random.uniform(-3, 5, (80, 2)))
    boxes = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    boxes[40:] = boxes[:40] + random.normal(0, 1e-3, (40, 4)).astype(np.float32) * np.tile(half[:40], 2)
    scores = random.random(80).astype(np.float32)
    labels = np.repeat([0, 1], [75, 5])
    assert nms(boxes, scores, labels, iou=threshold).tolist() == brute_force(boxes, scores, labels, threshold)


def test_one_far_box_does_not_spoil_the_windows_of_the_others():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1e30, 0, 2e30, 10], [0, 0, 10, 10]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([1, 1, 1, 1])
    assert nms(boxes, scores, labels).tolist() == [0, 2]


def test_without_labels_all_boxes_are_of_one_class():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.1, 0.9], np.float32)
    assert nms(boxes, scores).tolist() == [1]
    assert nms(boxes, scores, np.array([7, -3])).tolist() == [1, 0]


def test_no_more_than_the_limit_are_kept():
    boxes = np.arange(40, dtype=np.float32).reshape(10, 4) * np.float32(10)
    boxes[:, 2:] = boxes[:, :2] + 1
    scores = np.linspace(0, 1, 10, dtype=np.float32)
    assert nms(boxes, scores, limit=3).tolist() == [9, 8, 7]
    assert nms(boxes, scores, limit=0).tolist() == []


BOX = [0.0, 0.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("boxes", "scores", "said"),
    [
        ([BOX, [0, float("nan"), 1, 1]], [0.5, 0.5], "not finite; the first is box 1"),
        ([BOX], [float("nan")], r"not finite; the first is box 0.*score nan"),
        ([[0, 0, float("inf"), 1]], [0.5], "not finite"),
        ([[5, 0, 1, 1]], [0.5], "right or lower edge lies before"),
        ([BOX], [0.5, 0.4], r"shape \[1, 4\] and their scores \[2\]"),
        ([BOX[:3]], [0.5], r"give \[N, 4\]"),
    ],
)
def test_what_are_no_boxes_is_refused(boxes, scores, said):
    with pytest.raises(FeathersegError, match=said):
        nms(np.array(boxes, np.float32), np.array(scores, np.float32))


def test_a_threshold_that_is_no_share_and_labels_of_other_number_are_refused():
    boxes, scores = np.array([BOX], np.float32), np.array([1], np.float32)
    with pytest.raises(FeathersegError, match="must be from 0 to 1"):
        nms(boxes, scores, iou=50)
    with pytest.raises(FeathersegError, match="1 boxes and labels of shape"):
        nms(boxes, scores, np.array([1, 2]))
