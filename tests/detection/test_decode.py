"""Box deltas there and back, and what is made of a detector's raw output."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.detection.decode import decode, encode, read_output
from featherseg.errors import FeathersegError
from featherseg.models.detection_output import BoxCode, DetectorSpec

SSD_CODE = BoxCode((10.0, 10.0, 5.0, 5.0))


def logit(share: float) -> float:
    return math.log(share / (1 - share))


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), code=st.sampled_from([BoxCode(), SSD_CODE]))
def test_decoding_undoes_encoding(seed, code):
    random = np.random.default_rng(seed)
    corner, side = random.uniform(-50, 50, (2, 20, 2)), np.exp(random.uniform(0, 4, (2, 20, 2)))
    boxes, anchors = torch.tensor(np.concatenate([corner, corner + side], -1))
    assert torch.allclose(decode(encode(boxes, anchors, code), anchors, code), boxes, atol=1e-9)


def test_deltas_are_those_of_the_paper():
    """Ren et al. 2015, Eq. 2, by hand: an anchor of 10x20 around (10, 20), a box of 20x20 around (15, 30)."""
    anchor = torch.tensor([[5.0, 10.0, 15.0, 30.0]])
    box = torch.tensor([[5.0, 20.0, 25.0, 40.0]])
    assert encode(box, anchor, BoxCode())[0].tolist() == pytest.approx([0.5, 0.5, math.log(2), 0])
    assert encode(box, anchor, SSD_CODE)[0].tolist() == pytest.approx([5, 5, 5 * math.log(2), 0])


def test_a_wild_delta_gives_a_box_of_bounded_size():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = decode(torch.tensor([[0.0, 0.0, 80.0, -80.0]]), anchor, BoxCode())
    assert float(box[0, 2] - box[0, 0]) == pytest.approx(1000)


def read(anchors, scores, spec, size=(100, 200), deltas=None):
    anchors = torch.tensor(anchors, dtype=torch.float32)
    deltas = torch.zeros(len(anchors), 4) if deltas is None else deltas
    return read_output(torch.tensor(scores, dtype=torch.float32), deltas, anchors, spec, size)


def test_boxes_are_cut_off_at_the_image_and_slivers_dropped():
    anchors = [[-10, -10, 20, 20], [190, 90, 300, 300], [199.5, 0, 260, 50], [0, 98.9, 50, 130]]
    found = read(anchors, [[3], [2], [1], [0]], DetectorSpec())
    assert found.boxes.tolist() == pytest.approx(np.array([[0, 0, 20, 20], [190, 90, 200, 100], [0, 98.9, 50, 100]]))
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(-x)) for x in (3, 2, 0)])


def test_a_sliver_does_not_suppress():
    anchors = [[199.5, 0, 260, 50], [190, 0, 200, 50]]
    assert len(read(anchors, [[3], [2]], DetectorSpec(nms_iou=0.0))) == 1


def test_suppression_is_within_a_class_and_keeps_the_best():
    anchors = [[0, 0, 20, 20], [0, 0, 20, 19], [50, 0, 70, 20]]
    found = read(anchors, [[1, 2], [3, 0], [-1, -4]], DetectorSpec())
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.boxes[0].tolist() == [0, 0, 20, 19]
    assert found.boxes[1].tolist() == [0, 0, 20, 20]


def test_only_the_best_candidates_above_the_threshold_are_read_and_only_so_many_kept():
    anchors = [[10 * i, 0, 10 * i + 5, 5] for i in range(8)]
    scores = [[logit(0.1 * (i + 1))] for i in range(8)]
    assert len(read(anchors, scores, DetectorSpec(candidates=5))) == 5
    assert len(read(anchors, scores, DetectorSpec(score_threshold=0.35))) == 5
    kept = read(anchors, scores, DetectorSpec(keep=2))
    assert kept.scores.tolist() == pytest.approx([0.8, 0.7])


def test_softmax_scores_leave_the_background_out_and_resized_images_get_boxes_of_their_own_pixels():
    spec = DetectorSpec(size=(300, 300), scoring="softmax", score_threshold=0.2, keep=10)
    scores = [[math.log(p) for p in (0.1, 0.6, 0.3)], [math.log(p) for p in (0.85, 0.1, 0.05)]]
    found = read([[30, 60, 90, 120], [0, 0, 9, 9]], scores, spec, size=(100, 600))
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.6, 0.3])
    assert found.boxes[0].tolist() == pytest.approx([60, 20, 180, 40])


def test_an_output_that_is_not_finite_is_refused():
    with pytest.raises(FeathersegError, match="not finite"):
        read([[0, 0, 9, 9]], [[float("nan")]], DetectorSpec(score_threshold=0.1))
    with pytest.raises(FeathersegError, match="not finite"):
        read([[0, 0, 9, 9]], [[1.0]], DetectorSpec(), deltas=torch.full((1, 4), float("nan")))
