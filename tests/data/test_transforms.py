"""Augmentation: the published order and padding, labels that are never blended, and image and label that stay one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featherseg.data.labels import IGNORE
from featherseg.data.transforms import Augmentation, ColourJitter, crop_position, jitter_colours, pad_to

COLOURS = np.random.default_rng(0).permutation(256)[:12].astype(np.uint8)


def scene(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red channel says which class its label has; classes come in blobs."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 12, (-(-height // 8), -(-width // 8)), dtype=np.uint8)
    label = np.kron(coarse, np.ones((8, 8), np.uint8))[:height, :width]
    return np.stack([COLOURS[label], label, label], -1), np.ascontiguousarray(label)


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=150)
@given(seed=st.integers(0, 9999), size=sizes, crop=sizes, scale=st.sampled_from([(0.5, 2.0), (1.0, 1.0), (0.25, 0.3)]))
def test_every_size_and_crop_gives_the_crops_size_and_only_ids_that_were_there(seed, size, crop, scale) -> None:
    image, label = scene(seed, *size)
    out, ids = Augmentation(crop, scale=scale, log_scale=seed % 2 == 0)(image, label, np.random.default_rng(seed))
    assert (out.shape, out.dtype, ids.shape, ids.dtype) == ((*crop, 3), np.uint8, crop, np.uint8)
    assert out.flags.c_contiguous
    assert ids.flags.c_contiguous
    assert set(np.unique(ids)) <= set(np.unique(label)) | {IGNORE}


@settings(max_examples=60)
@given(seed=st.integers(0, 9999), crop=sizes, focus=st.sampled_from([None, 3]))
def test_image_and_label_show_the_same_place_after_flip_padding_and_crop(seed, crop, focus) -> None:
    image, label = scene(seed, 24, 20)
    out, ids = Augmentation(crop, scale=(1.0, 1.0))(image, label, np.random.default_rng(seed), focus)
    seen = ids != IGNORE
    assert np.array_equal(out[seen, 0], COLOURS[ids[seen]])
    assert not out[~seen].any()


@settings(max_examples=40)
@given(seed=st.integers(0, 9999), factor=st.floats(0.5, 2.0))
def test_the_label_is_resized_as_pillow_does_and_keeps_its_place_under_the_image(seed, factor) -> None:
    _, label = scene(seed, 80, 96)
    image = np.repeat((label == 3).astype(np.uint8)[..., None] * 255, 3, -1)
    size = (int(80 * factor), int(96 * factor))
    augment = Augmentation(size, flip=0.0, scale=(factor, factor))
    out, ids = augment(image, label, np.random.default_rng(seed))
    assert np.array_equal(ids, np.asarray(Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST)))
    # Where the resized image is clearly inside or outside of the class, the label must say the same.
    clear = (out[..., 0] > 192) | (out[..., 0] < 64)
    assert np.mean((out[..., 0] > 128)[clear] == (ids == 3)[clear]) > 0.995


def test_padding_is_the_full_deficit_on_both_sides_black_and_ignored() -> None:
    image, label = np.full((3, 5, 3), 7, np.uint8), np.full((3, 5), 2, np.uint8)
    out, ids = pad_to(image, label, (7, 6))
    assert ids.shape == (3 + 2 * 4, 5 + 2 * 1)
    assert np.array_equal(ids[4:7, 1:6], label)
    assert np.count_nonzero(ids == IGNORE) == ids.size - 15
    assert np.array_equal(out[4:7, 1:6], image)
    assert np.count_nonzero(out) == 15 * 3


def test_padding_at_one_corner_is_the_deficit_at_the_bottom_and_the_right() -> None:
    image, label = np.full((3, 5, 3), 7, np.uint8), np.full((3, 5), 2, np.uint8)
    out, ids = pad_to(image, label, (7, 6), "bottom_right", 128)
    assert np.array_equal(ids, np.pad(label, ((0, 4), (0, 1)), constant_values=IGNORE))
    assert np.array_equal(out, np.pad(image, ((0, 4), (0, 1), (0, 0)), constant_values=128))


@settings(max_examples=60)
@given(seed=st.integers(0, 9999), crop=sizes)
def test_the_mobile_papers_order_is_scale_pad_crop_flip(seed, crop) -> None:
    """DeepLab's published steps redone with numpy and Pillow's nearest label, from the same draws."""
    image, label = scene(seed, 24, 20)
    augment = Augmentation(
        crop, scale=(0.5, 2.0), scale_step=0.25, flip_last=True, padding="bottom_right", padding_value=128
    )
    out, ids = augment(image, label, np.random.default_rng(seed))
    random = np.random.default_rng(seed)
    factor = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)[random.integers(7)]
    size = (int(20 * factor), int(24 * factor))
    resized = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    down, right = max(0, crop[0] - size[1]), max(0, crop[1] - size[0])
    padded = np.pad(resized, ((0, down), (0, right)), constant_values=IGNORE)
    top, left = (int(random.integers(whole - part + 1)) for whole, part in zip(padded.shape, crop, strict=True))
    expected = padded[top : top + crop[0], left : left + crop[1]]
    expected = expected[:, ::-1] if random.random() < 0.5 else expected
    assert np.array_equal(ids, expected)
    assert (out[ids == IGNORE] == 128).all()


def test_stepped_factors_are_the_seven_published_ones_equally_often() -> None:
    augment = Augmentation((1, 1), scale=(0.5, 2.0), scale_step=0.25)
    random = np.random.default_rng(0)
    drawn, counts = np.unique([augment._factor(random) for _ in range(7000)], return_counts=True)
    assert drawn.tolist() == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert counts.min() > 880  # 1,000 each, four standard deviations of 30 off at most
    assert Augmentation((1, 1), scale=(0.7, 1.0), scale_step=0.1)._factor(np.random.default_rng(1)) == pytest.approx(
        0.8
    )


def test_an_image_that_is_large_enough_is_not_padded() -> None:
    image, label = scene(0, 9, 9)
    assert pad_to(image, label, (9, 4))[1] is label


def test_the_order_is_flip_resize_pad_crop() -> None:
    """One draw each for flip and factor, then the crop's two: redone by hand with Pillow's nearest label."""
    image, label = scene(4, 20, 30)
    for seed in range(20):
        random = np.random.default_rng(seed)
        flipped = label[:, ::-1] if random.random() < 0.5 else label
        factor = random.uniform(0.5, 2.0)
        size = (int(30 * factor), int(20 * factor))
        resized = np.asarray(Image.fromarray(np.ascontiguousarray(flipped)).resize(size, Image.Resampling.NEAREST))
        down, right = max(0, 24 - size[1]), max(0, 24 - size[0])
        padded = np.pad(resized, ((down, down), (right, right)), constant_values=IGNORE)
        top, left = random.integers(padded.shape[0] - 23), random.integers(padded.shape[1] - 23)
        ids = Augmentation((24, 24))(image, label, np.random.default_rng(seed))[1]
        assert np.array_equal(ids, padded[top : top + 24, left : left + 24])


def test_the_result_is_a_pure_function_of_the_generator_and_leaves_its_input_alone() -> None:
    image, label = scene(1, 30, 30)
    before = image.copy(), label.copy()
    augment = Augmentation((16, 16), jitter=ColourJitter(0.3, 0.3, 0.3, 20.0))
    first, second, other = (augment(image, label, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(image, before[0])
    assert np.array_equal(label, before[1])


@pytest.mark.parametrize(("log_scale", "mean_inverse"), [(False, np.log(4) / 1.5), (True, 1.5 / np.log(4))])
def test_the_factor_is_drawn_evenly_on_a_linear_or_a_logarithmic_scale(log_scale: bool, mean_inverse: float) -> None:
    image, label = np.zeros((100, 1, 3), np.uint8), np.arange(100, dtype=np.uint8)[:, None]
    augment = Augmentation((2, 1), flip=0.0, scale=(0.5, 2.0), log_scale=log_scale)
    # Two rows of the result are 1 / factor rows of the original apart: 0, 1 or 2.
    crops = (augment(image, label, np.random.default_rng(seed))[1] for seed in range(3000))
    distances = [float(crop[1, 0]) - float(crop[0, 0]) for crop in crops]
    assert np.mean(distances) == pytest.approx(mean_inverse, abs=0.03)


@settings(max_examples=80)
@given(seed=st.integers(0, 9999), size=st.tuples(st.integers(9, 50), st.integers(9, 50)))
def test_a_focused_crop_holds_its_class(seed, size) -> None:
    random = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    label[random.integers(size[0]), random.integers(size[1])] = 7
    top, left = crop_position(label, (9, 9), random, focus=7)
    assert 0 <= top <= size[0] - 9
    assert 0 <= left <= size[1] - 9
    assert (label[top : top + 9, left : left + 9] == 7).any()


def test_a_focus_that_the_image_does_not_show_gives_an_ordinary_crop() -> None:
    label = np.zeros((30, 30), np.uint8)
    ordinary = crop_position(label, (9, 9), np.random.default_rng(3))
    assert crop_position(label, (9, 9), np.random.default_rng(3), focus=7) == ordinary


def test_random_crops_reach_every_position() -> None:
    label, random = np.zeros((11, 12), np.uint8), np.random.default_rng(0)
    assert len({crop_position(label, (9, 9), random) for _ in range(300)}) == 3 * 4


def test_a_focused_crop_lays_its_pixel_anywhere_in_the_crop() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[20, 20] = 7
    random = np.random.default_rng(0)
    places = {crop_position(label, (5, 5), random, focus=7) for _ in range(500)}
    assert places == {(y, x) for y in range(16, 21) for x in range(16, 21)}


def test_no_jitter_is_the_identity_and_says_so() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    assert not ColourJitter()
    assert np.array_equal(jitter_colours(image, ColourJitter(), np.random.default_rng(0)), image)


@pytest.mark.parametrize(
    "jitter",
    [ColourJitter(brightness=1.0), ColourJitter(contrast=1.0), ColourJitter(saturation=1.0), ColourJitter(hue=90)],
)
def test_each_jitter_changes_the_image_and_keeps_it_uint8(jitter: ColourJitter) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    assert jitter
    changed = [jitter_colours(image, jitter, np.random.default_rng(seed)) for seed in range(5)]
    assert all(out.dtype == np.uint8 and out.shape == image.shape for out in changed)
    assert all(not np.array_equal(out, image) for out in changed)


def test_brightness_scales_and_clips() -> None:
    image = np.full((4, 4, 3), 200, np.uint8)
    factors = [np.random.default_rng(seed).uniform(0.0, 2.0) for seed in range(10)]
    for seed, factor in enumerate(factors):
        out = jitter_colours(image, ColourJitter(brightness=1.0), np.random.default_rng(seed))
        assert np.all(np.abs(out.astype(int) - min(255, round(200 * factor))) <= 1)
    assert max(factors) > 1.3  # the clipping was tried


def test_contrast_keeps_the_mean_and_saturation_and_hue_keep_grey_grey() -> None:
    random = np.random.default_rng(1)
    grey = np.repeat(random.integers(100, 150, (30, 30, 1)), 3, -1).astype(np.uint8)
    contrasted = jitter_colours(grey, ColourJitter(contrast=0.5), np.random.default_rng(2))
    assert abs(contrasted.mean() - grey.mean()) < 1
    for jitter in (ColourJitter(saturation=0.9), ColourJitter(hue=120.0)):
        out = jitter_colours(grey, jitter, np.random.default_rng(3)).astype(int)
        assert np.abs(out - grey).max() <= 1
