"""Augmentation that moves boxes with their pixels, and the rest that samples promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted_boxes import COLOURS, PaintedBoxes

from featherseg.data.boxes import BoxSample
from featherseg.data.transforms import ColourJitter
from featherseg.detection.samples import CAPACITY, BoxAugmentation, BoxSamples, mirrored
from featherseg.errors import FeathersegError

NO_BOXES = np.zeros((0, 4), np.float32)


def painted(box, size=(60, 90)) -> BoxSample:
    left, top, right, bottom = box
    image = np.full((*size, 3), 120, np.uint8)
    image[top:bottom, left:right] = COLOURS[0]
    return BoxSample(image, np.array([box], np.float32), np.array([3]), NO_BOXES, "painted")


def extent(image: np.ndarray) -> list[int]:
    """Where the red rectangle is."""
    rows, columns = np.nonzero((image[..., 0] > 170) & (image[..., 1] < 80))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    crop=st.sampled_from([(60, 90), (40, 50), (80, 130), (30, 120)]),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 2.0)]),
    log_scale=st.booleans(),
)
def test_boxes_go_where_their_pixels_go(seed, crop, scale, log_scale):
    augment = BoxAugmentation(crop, 0.5, scale, log_scale, 120, min_visible=0.0, min_side=2.0)
    found = augment(painted((20, 15, 55, 40)), np.random.default_rng(seed))
    assert found.image.shape == (*crop, 3)
    if len(found.boxes):
        assert found.labels.tolist() == [3]
        assert np.abs(found.boxes[0] - extent(found.image)).max() <= 1.5  # blurred edges where it was resized


def test_without_scaling_boxes_are_exact():
    augment = BoxAugmentation((40, 60), padding_value=120, min_visible=0.0)
    for seed in range(20):
        found = augment(painted((20, 15, 55, 40)), np.random.default_rng(seed))
        assert not len(found.boxes) or found.boxes[0].tolist() == extent(found.image)


def test_a_box_of_which_little_is_left_becomes_an_ignored_region():
    sample = painted((0, 0, 60, 60), size=(60, 60))
    seen = {True: 0, False: 0}
    for seed in range(40):
        found = BoxAugmentation((60, 60), 0.0, (1.6, 1.6), min_visible=0.45)(sample, np.random.default_rng(seed))
        left = found.boxes if len(found.boxes) else found.ignored
        share = float((left[:, 2:] - left[:, :2]).prod()) / 96**2
        assert (share >= 0.45) == bool(len(found.boxes))
        assert len(found.boxes) + len(found.ignored) == 1
        seen[bool(len(found.boxes))] += 1
    small = BoxAugmentation((60, 60), 0.0, min_side=61)(sample, np.random.default_rng(0))
    assert (len(small.boxes), small.ignored.tolist()) == (0, [[0, 0, 60, 60]])


def test_boxes_that_leave_the_crop_are_gone():
    sample = painted((0, 0, 4, 4))
    away = [BoxAugmentation((20, 20), 0.0)(sample, np.random.default_rng(seed)) for seed in range(20)]
    assert any(not len(found.boxes) and not len(found.ignored) for found in away)


def test_padding_may_lie_at_any_side():
    places = set()
    for seed in range(60):
        found = BoxAugmentation((62, 92), 0.0, padding_value=7)(painted((20, 15, 55, 40)), np.random.default_rng(seed))
        places.add(tuple((found.boxes[0, :2] - [20, 15]).tolist()))
    assert places == {(x, y) for x in (0, 1, 2) for y in (0, 1, 2)}


def test_mirroring_twice_changes_nothing():
    boxes = np.array([[1, 2, 5, 9]], np.float32)
    assert mirrored(boxes, 20).tolist() == [[15, 2, 19, 9]]
    assert np.array_equal(mirrored(mirrored(boxes, 20), 20), boxes)


def test_a_sample_is_a_function_of_seed_epoch_and_position():
    def read(seed, place):
        augment = BoxAugmentation((96, 160), 0.5, (0.7, 1.4), jitter=ColourJitter(0.3, 0.3, 0.3))
        return BoxSamples(PaintedBoxes(), augment, None, seed)[place]

    first, again = read(1, (0, 2)), read(1, (0, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first[:2], again[:2], strict=True))
    assert any(not np.array_equal(read(seed, place)[0], first[0]) for seed, place in ((2, (0, 2)), (1, (1, 2))))


def test_ignored_regions_travel_in_the_target():
    _, target, _ = BoxSamples(PaintedBoxes(regions=True), BoxAugmentation((96, 160), 0.0), None, 0)[(0, 0)]
    assert target.shape == (CAPACITY, 5)
    assert target[target[:, 4] == -1, :4].tolist() == [[0, 0, 160, 4]]


def test_too_many_boxes_are_refused_with_the_images_name():
    many = np.tile(np.array([[0, 0, 9, 9]], np.float32), (CAPACITY + 1, 1))

    class Crowd(PaintedBoxes):
        def read(self, index: int) -> BoxSample:
            return BoxSample(np.zeros((20, 20, 3), np.uint8), many, np.zeros(len(many), np.int64), NO_BOXES, "crowd-1")

    with pytest.raises(FeathersegError, match="crowd-1: 513 boxes"):
        BoxSamples(Crowd(), BoxAugmentation((20, 20)), None, 0)[(0, 0)]
