"""Matching of anchors and boxes, ignored regions, and the sample."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.detection.targets import (
    NEGATIVE,
    NEITHER,
    Matching,
    anchor_priorities,
    match,
    overlaps,
    pack_target,
    sample,
    unpack_target,
)

NONE = torch.zeros(0, 4)


def boxes_of(*corners) -> torch.Tensor:
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def iou(a, b) -> float:
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(tall, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared) if shared else 0.0


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), low_quality=st.booleans())
def test_matching_is_as_described(seed, low_quality):
    """Against the rules one anchor at a time, on real numbers, so that no two overlaps are equal but 0."""
    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, 30, (46, 2)), random.uniform(2, 20, (46, 2))
    everything = torch.tensor(np.concatenate([corner, corner + side], 1))
    anchors, boxes, ignored = everything[:40], everything[40:43], everything[43:]
    found = match(anchors, boxes, ignored, Matching(0.5, 0.3, low_quality))
    table = [[iou(a, b) for b in boxes.tolist()] for a in anchors.tolist()]
    tops = [max(row[g] for row in table) for g in range(3)]
    for anchor, row, got in zip(anchors.tolist(), table, found.tolist(), strict=True):
        claims = [(row[g], g) for g in range(3) if low_quality and row[g] == tops[g] and row[g] > 0]
        expected = NEGATIVE if max(row) < 0.3 else NEITHER
        if max(row) >= 0.5:
            expected = row.index(max(row))
        if claims:
            expected = max(claims)[1]
        for region in ignored.tolist():
            wide = min(anchor[2], region[2]) - max(anchor[0], region[0])
            tall = min(anchor[3], region[3]) - max(anchor[1], region[1])
            own = (anchor[2] - anchor[0]) * (anchor[3] - anchor[1])
            if expected == NEGATIVE and max(wide, 0) * max(tall, 0) / own > 0.5:
                expected = NEITHER
        assert got == expected


def test_every_box_has_an_anchor_with_low_quality_and_none_may_have_without():
    anchors, boxes = boxes_of((0, 0, 32, 32), (100, 0, 132, 32)), boxes_of((10, 10, 14, 14))
    assert match(anchors, boxes, NONE, Matching()).tolist() == [0, NEGATIVE]
    assert match(anchors, boxes, NONE, Matching(low_quality=False)).tolist() == [NEGATIVE, NEGATIVE]


def test_a_box_that_no_anchor_touches_has_none():
    assert match(boxes_of((0, 0, 8, 8)), boxes_of((50, 50, 60, 60)), NONE, Matching()).tolist() == [NEGATIVE]


def test_without_boxes_all_anchors_are_negative_but_in_ignored_regions():
    anchors = boxes_of((0, 0, 10, 10), (50, 0, 60, 10), (54, 0, 64, 10))
    assert match(anchors, NONE, NONE, Matching()).tolist() == [NEGATIVE] * 3
    assert match(anchors, NONE, boxes_of((40, 0, 59, 99)), Matching()).tolist() == [NEGATIVE, NEITHER, NEGATIVE]


def test_a_positive_anchor_in_an_ignored_region_stays_positive():
    anchors = boxes_of((0, 0, 10, 10))
    assert match(anchors, anchors, boxes_of((0, 0, 99, 99)), Matching()).tolist() == [0]


def test_overlaps_of_boxes_without_area_are_zero():
    assert overlaps(boxes_of((1, 1, 1, 1)), boxes_of((1, 1, 1, 1), (0, 0, 2, 2))).tolist() == [[0, 0]]


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), positives=st.integers(0, 60), negatives=st.integers(0, 60))
def test_the_sample_is_half_positive_at_most_and_filled_with_negatives(seed, positives, negatives):
    random = np.random.default_rng(seed)
    kinds = [3] * positives + [NEGATIVE] * negatives + [NEITHER] * 5
    assigned = torch.tensor(random.permutation(kinds))
    chosen = sample(assigned, anchor_priorities(seed, 1, "a", len(kinds)), 32, 0.5)
    counted = chosen != NEITHER
    assert torch.equal(chosen[counted], assigned[counted])
    assert int((chosen >= 0).sum()) == min(positives, 16)
    assert int((chosen == NEGATIVE).sum()) == min(negatives, 32 - min(positives, 16))


def test_the_sample_is_a_function_of_seed_step_and_image_alone():
    assigned = torch.full((1000,), NEGATIVE)

    def chosen(*which):
        return tuple(sample(assigned, anchor_priorities(*which, 1000), 64, 0.5).tolist())

    assert chosen(1, 2, "a") == chosen(1, 2, "a")
    assert len({chosen(1, 2, "a"), chosen(2, 2, "a"), chosen(1, 3, "a"), chosen(1, 2, "b")}) == 4


def test_every_anchor_is_sampled_as_often():
    assigned, times = torch.full((40,), NEGATIVE), torch.zeros(40)
    for step in range(400):
        times += sample(assigned, anchor_priorities(0, step, "a", 40), 10, 0.5) == NEGATIVE
    assert times.sum() == 4000
    assert 60 < times.min() < times.max() < 140  # 100 expected, standard deviation 8.7


def test_packed_targets_come_back():
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    ignored = np.array([[0, 0, 9, 9]], np.float32)
    got = unpack_target(torch.from_numpy(pack_target(boxes, np.array([2, 0]), ignored, 5)))
    assert [part.tolist() for part in got] == [boxes.tolist(), [2, 0], ignored.tolist()]
    empty = unpack_target(torch.from_numpy(pack_target(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)), 5)))
    assert [len(part) for part in empty] == [0, 0, 0]


@pytest.mark.parametrize("seed", [0, 1])
def test_overlaps_are_intersection_over_union(seed):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 20, (12, 2))
    boxes = torch.tensor(np.concatenate([corner, corner + random.uniform(1, 20, (12, 2))], 1))
    expected = torch.tensor([[iou(a, b) for b in boxes[5:].tolist()] for a in boxes[:5].tolist()], dtype=torch.float64)
    assert torch.allclose(overlaps(boxes[:5], boxes[5:]), expected)
