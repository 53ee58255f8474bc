"""RandAugment's operations against Pillow's, which the published program used, and what a draw may do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from featherseg.classification import randaugment as ra


def picture(seed: int, size: tuple[int, int] = (24, 31)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


@settings(max_examples=30)
@given(seed=st.integers(0, 99), factor=st.floats(0, 2), bits=st.integers(1, 8), threshold=st.integers(0, 256))
def test_colours_change_as_pillow_changes_them(seed, factor, bits, threshold):
    image = picture(seed) // 2 + 40
    pillow = Image.fromarray(image)
    pairs = {
        "posterize": (ra.posterize(image, bits), ImageOps.posterize(pillow, bits)),
        "solarize": (ra.solarize(image, threshold), ImageOps.solarize(pillow, threshold)),
        "auto_contrast": (ra.auto_contrast(image), ImageOps.autocontrast(pillow)),
        "brightness": (ra.brightness(image, factor), ImageEnhance.Brightness(pillow).enhance(factor)),
        "contrast": (ra.contrast(image, factor), ImageEnhance.Contrast(pillow).enhance(factor)),
        "colour": (ra.colour(image, factor), ImageEnhance.Color(pillow).enhance(factor)),
        "sharpness": (ra.sharpness(image, factor), ImageEnhance.Sharpness(pillow).enhance(factor)),
    }
    for name, (ours, theirs) in pairs.items():
        # Pillow cuts where we round, and rounds the grey that it blends with.
        difference = np.abs(ours.astype(int) - np.array(theirs).astype(int)).max()
        assert difference <= (0 if name in ("posterize", "solarize") else 2), name


def test_equalizing_spreads_values_and_keeps_their_order():
    image = (picture(1) // 8) + 100
    found = ra.equalize(image)
    assert (found.min(), found.max()) == (0, 255)
    for channel in range(3):
        order = np.argsort(image[..., channel], axis=None, kind="stable")
        assert (np.diff(found[..., channel].ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("stretch", [ra.auto_contrast, ra.equalize])
def test_a_picture_of_one_colour_is_not_stretched(stretch):
    flat = np.full((5, 6, 3), (7, 130, 255), np.uint8)
    assert np.array_equal(stretch(flat), flat)


def test_moves_are_by_a_share_of_the_side_and_leave_grey():
    image = picture(2, (20, 40))
    right, down = ra.translate_x(image, 0.25), ra.translate_y(image, -0.1)
    assert np.array_equal(right[:, 10:], image[:, :30])
    assert (right[:, :10] == 128).all()
    assert np.array_equal(down[:18], image[2:])
    assert (down[18:] == 128).all()


def test_a_quarter_turn_is_exact_and_turns_about_the_middle():
    image = picture(3, (21, 21))
    assert np.array_equal(ra.rotate(image, 90), np.rot90(image))


def test_shears_slide_by_the_distance_from_the_middle():
    """A cross through the middle: the line that slides along itself stays, the other becomes the diagonal."""
    cross = np.zeros((11, 11, 3), np.uint8)
    cross[5, :] = cross[:, 5] = 255
    slid = ra.shear_x(cross, 1.0)
    assert (slid[5] == 255).all()
    assert (np.diagonal(slid) == 255).all()
    assert np.array_equal(ra.shear_y(cross, 1.0), slid.transpose(1, 0, 2))


def test_the_papers_fourteen_operations_do_nothing_or_little_without_magnitude():
    """Equalize and auto-contrast have no magnitude; solarize inverts 256 and above, which is nothing."""
    assert len(ra.OPERATIONS) == 14
    image = picture(4)
    image[0, 0], image[0, 1] = 0, 255
    for name, operation in ra.OPERATIONS.items():
        if name != "equalize":
            assert np.abs(operation(image, 0.0, 1.0).astype(int) - image).max() <= 1, name


@settings(max_examples=60)
@given(st.integers(0, 9999), st.integers(1, 4), st.floats(0, 10), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_any_image_stays_uint8_of_its_size_and_depends_on_the_generator_alone(seed, operations, magnitude, size):
    image = picture(seed, size)
    before = image.copy()
    found = [ra.rand_augment(image, operations, magnitude, np.random.default_rng(seed)) for _ in range(2)]
    assert (found[0].shape, found[0].dtype) == ((*size, 3), np.uint8)
    assert np.array_equal(*found)
    assert np.array_equal(image, before)


def test_every_operation_is_drawn_as_often_as_any_other(monkeypatch):
    counts = dict.fromkeys(ra.OPERATIONS, 0)

    def counting(name):
        def operation(image, strength, sign):
            counts[name] += 1
            return image

        return operation

    monkeypatch.setattr(ra, "OPERATIONS", {name: counting(name) for name in ra.OPERATIONS})
    ra.rand_augment(picture(0), 2800, 5, np.random.default_rng(0))
    assert min(counts.values()) > 150  # of 200, with a standard deviation of 14
    assert max(counts.values()) < 250


def test_erasing_takes_a_rectangle_of_the_area_and_aspect_that_are_published():
    image = np.zeros((60, 80, 3), np.uint8)
    shares = []
    for seed in range(200):
        erased = ra.random_erase(image, np.random.default_rng(seed)).any(2)
        rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
        assert np.array_equal(np.diff(rows), np.ones(rows.size - 1))
        shares.append(rows.size * columns.size / 4800)
        assert 0.27 < rows.size / columns.size < 3.7
    assert 0.015 < min(shares) < 0.06
    assert 0.28 < max(shares) < 0.34
    assert not image.any()
