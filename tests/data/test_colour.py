"""Coloured label maps, overlays and the legend."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featherseg.data.colour import colourise, legend_strip, overlay
from featherseg.data.labels import CAMVID11, LabelSet

label_ids = st.one_of(st.integers(0, 10), st.just(255))
small_labels = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=label_ids)


@given(small_labels)
def test_every_pixel_has_the_colour_of_its_class_and_ignored_ones_are_black(label):
    painted = colourise(label, CAMVID11.palette)
    assert painted.dtype == np.uint8
    for (y, x), cls in np.ndenumerate(label):
        assert tuple(painted[y, x]) == ((0, 0, 0) if cls == 255 else CAMVID11.palette[cls])


def test_an_id_without_a_colour_is_refused_by_name():
    with pytest.raises(ValueError, match=r"\[11, 99\]"):
        colourise(np.array([[0, 99, 11, 255]], np.uint8), CAMVID11.palette)


@given(small_labels, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_an_overlay_mixes_by_alpha_and_leaves_ignored_pixels_alone(label, alpha, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*label.shape, 3)).astype(np.uint8)
    mixed = overlay(image, label, CAMVID11.palette, alpha).astype(np.float64)
    exact = (1 - alpha) * image + alpha * colourise(label, CAMVID11.palette)
    exact[label == 255] = image[label == 255]
    assert np.abs(mixed - exact).max() <= 0.51


def test_an_overlay_leaves_its_inputs_alone():
    image, label = np.full((4, 4, 3), 200, np.uint8), np.full((4, 4), 255, np.uint8)
    label[0] = 3
    before = image.copy(), label.copy()
    overlay(image, label, CAMVID11.palette)
    assert np.array_equal(image, before[0])
    assert np.array_equal(label, before[1])


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), CAMVID11.palette)


def colours_in(strip: np.ndarray) -> set[tuple[int, int, int]]:
    return {(int(r), int(g), int(b)) for r, g, b in strip.reshape(-1, 3)}


def test_a_legend_shows_the_colours_of_the_present_classes_only():
    strip = legend_strip(CAMVID11, [0, 5, 255], width=480)
    shown = [cls for cls, colour in enumerate(CAMVID11.palette) if colour in colours_in(strip)]
    assert shown == [0, 5]
    assert strip.shape[1:] == (480, 3)


def test_a_narrow_legend_wraps_and_keeps_every_class():
    wide, narrow = (legend_strip(CAMVID11, range(11), width=width) for width in (2000, 150))
    assert narrow.shape[0] > wide.shape[0]
    assert set(CAMVID11.palette) <= colours_in(narrow)


def test_a_name_too_long_for_the_strip_stays_inside_it():
    labels = LabelSet("long", ("x" * 200,), ((255, 0, 0),))
    strip = legend_strip(labels, [0], width=100)
    assert strip.shape == (24, 100, 3)
    assert (strip[:, -3:] == 255).all()


def test_a_legend_of_no_class_has_no_rows():
    assert legend_strip(CAMVID11, [255], width=64).shape == (0, 64, 3)


def test_a_legend_of_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match=r"\[11\]"):
        legend_strip(CAMVID11, [11], width=64)
