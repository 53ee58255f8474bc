"""A letterbox: an image goes into it and labels come out of it where they belong, to the pixel."""

import cv2
import numpy as np
import pytest
import torch
from colour_network import colour_segmenter
from hypothesis import given
from hypothesis import strategies as st

from featherseg.deploy.letterbox import letterbox, mean_colour, padded
from featherseg.deploy.views import View, viewed
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
BOX = (256, 384)
side = st.integers(1, 400)


def odd_sizes(count: int, most: int) -> list[tuple[int, int]]:
    random = np.random.default_rng(5)
    return [(int(h) | 1, int(w) | 1) for h, w in random.integers(9, most, (count, 2))]


@given(side, side, side, side)
def test_the_image_lies_in_the_box_touches_it_and_keeps_its_proportions(height, width, down, across):
    place = letterbox((height, width), (down, across))
    assert 0 <= place.top <= place.top + place.inner[0] <= down
    assert 0 <= place.left <= place.left + place.inner[1] <= across
    assert down == place.inner[0] or across == place.inner[1]
    scale = min(down / height, across / width)
    for inner, length in zip(place.inner, (height, width), strict=True):
        assert abs(inner - scale * length) <= 0.5 + 1e-9 or inner == 1
    assert 0 <= (down - place.inner[0]) - 2 * place.top <= 1
    assert 0 <= (across - place.inner[1]) - 2 * place.left <= 1


@pytest.mark.parametrize("size", odd_sizes(50, 255), ids=lambda size: f"{size[0]}x{size[1]}")
def test_labels_that_were_made_larger_come_back_to_the_pixel(size):
    """OpenCV's exact nearest neighbour puts them in; what comes out is every single label again."""
    truth = np.random.default_rng(size[0]).integers(0, 200, size, np.uint8)
    place = letterbox(size, BOX)
    boxed = np.full(BOX, 255, np.uint8)
    inside = cv2.resize(truth, place.inner[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    boxed[place.top : place.top + place.inner[0], place.left : place.left + place.inner[1]] = inside
    np.testing.assert_array_equal(place.labels_out(boxed), truth)


@pytest.mark.parametrize("size", odd_sizes(50, 255), ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_padded_image_comes_back_to_the_bit(size):
    pixels = np.random.default_rng(size[1]).integers(0, 255, (*size, 3), np.uint8)
    place = padded(size, BOX)
    boxed = place.into_box(pixels, (1, 2, 3))
    assert boxed.shape == (*BOX, 3)
    for channel in range(3):
        np.testing.assert_array_equal(place.labels_out(np.ascontiguousarray(boxed[..., channel])), pixels[..., channel])
    assert (boxed == (1, 2, 3)).all(-1).sum() >= BOX[0] * BOX[1] - size[0] * size[1]


@given(side, side)
def test_each_pixel_of_a_smaller_place_is_where_its_centre_is(height, width):
    place = letterbox((height, width), (96, 128))
    rows = np.arange(96, dtype=np.uint8)[:, None].repeat(128, 1)
    expected = [place.top + int(np.floor((y + 0.5) * place.inner[0] / height)) for y in range(height)]
    assert place.labels_out(rows)[:, 0].tolist() == expected


@pytest.mark.parametrize("size", odd_sizes(12, 200))
def test_logits_of_a_plane_come_out_as_that_plane(size):
    """A plane is resized bilinearly without error: its slope must be the inner length over the image's."""
    place = letterbox(size, BOX)
    plane = (torch.arange(BOX[0], dtype=torch.float64)[:, None] + 3 * torch.arange(BOX[1])).double()[None]
    found = place.logits_out(plane)[0]
    rows = place.top + (torch.arange(size[0]) + 0.5).double() * place.inner[0] / size[0] - 0.5
    columns = place.left + (torch.arange(size[1]) + 0.5).double() * place.inner[1] / size[1] - 0.5
    expected = rows[:, None] + 3 * columns
    inner = (slice(1, -1), slice(1, -1))  # beyond the outermost centres nothing is known
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-6, rtol=1e-6)


def test_edges_of_labelled_images_are_where_they_were_and_not_to_one_side():
    """Through network and letterbox, larger and smaller: no shift on average, no edge off by more than a stride."""
    plain = colour_segmenter()
    shown = viewed(plain, View(letterbox=BOX))
    shifts = []
    for height, width in odd_sizes(20, 600):
        left = width * 2 // 5
        truth = np.zeros((height, width), np.uint8)
        truth[:, left:] = 1
        found = shown.predict(COLOURS[truth]).labels
        assert found.shape == (height, width)
        scale = min(BOX[0] / height, BOX[1] / width)
        shift = (int((found[height // 2] == 0).sum()) - left) * min(scale, 1)
        assert abs(shift) <= 3
        shifts.append(shift)
    assert abs(np.mean(shifts)) < 0.5


def test_a_letterbox_of_the_images_own_size_changes_nothing():
    plain = colour_segmenter()
    pixels = np.random.default_rng(0).integers(0, 255, (61, 83, 3), np.uint8)
    for view in (View(letterbox=(61, 83)), View(pad=(61, 83))):
        np.testing.assert_array_equal(viewed(plain, view).predict(pixels).labels, plain.predict(pixels).labels)


def test_confidence_comes_out_with_the_labels():
    made = viewed(colour_segmenter(), View(pad=(80, 90))).predict(np.zeros((31, 47, 3), np.uint8), confidence=True)
    assert made.confidence is not None
    np.testing.assert_allclose(made.confidence, 1 / (1 + 3 / np.e), rtol=1e-5)


def test_padding_is_zero_once_it_is_normalised():
    for order in ("RGB", "BGR"):
        spec = InputSpec(color_order=order)
        pixels = torch.tensor(mean_colour(spec), dtype=torch.uint8).view(1, 1, 1, 3)
        assert spec.normalise(pixels).abs().max() < 0.01


def test_an_image_too_large_to_be_padded_is_refused():
    with pytest.raises(FeathersegError, match=r"100x20, larger than the 64x64.*letterbox"):
        viewed(colour_segmenter(), View(pad=(64, 64))).predict(np.zeros((100, 20, 3), np.uint8))
