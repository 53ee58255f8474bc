"""The view that is judged: its size, what it cuts off, and how it travels with weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.classification.views import ClassificationView, random_resized_crop
from featherseg.errors import FeathersegError

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(SIZES, SIZES, st.sampled_from(["whole", "centre"]), st.floats(0.3, 1.0))
def test_every_image_is_shown_in_the_views_size(image_size, size, kind, share):
    image = np.random.default_rng(0).integers(0, 256, (*image_size, 3)).astype(np.uint8)
    shown = ClassificationView(size, kind, share)(image)
    assert (shown.shape, shown.dtype) == ((*size, 3), np.uint8)


@pytest.mark.parametrize("shape", [(256, 300), (300, 256), (512, 700), (64, 64)])
def test_the_middle_is_cut_out_of_the_resized_image(shape):
    """224 of 256: read off a picture whose red is the column and whose green is the row, each from 0 to 255."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width].astype(float)
    image = np.stack([columns / (width - 1) * 255, rows / (height - 1) * 255, rows * 0], -1).round().astype(np.uint8)
    shown = ClassificationView((224, 224), "centre")(image).astype(float)
    factor = 256 / min(shape)
    for channel, side in ((0, width), (1, height)):
        span = shown[..., channel].max() - shown[..., channel].min()
        assert span == pytest.approx(255 * 223 / ((side - 1) * factor), abs=2.5)
        assert shown[..., channel].mean() == pytest.approx(127.5, abs=1.5)


def test_the_whole_image_is_squeezed():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 20:] = 200
    shown = ClassificationView((8, 8))(image)
    assert (shown[:, :4] == 0).all()
    assert (shown[:, 4:] == 200).all()


@pytest.mark.parametrize("kind", ["whole", "centre"])
def test_stripes_finer_than_the_view_are_averaged(kind):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 200
    shown = ClassificationView((16, 16), kind, 1.0)(image)
    assert np.abs(shown.astype(int) - 100).max() <= 1
    crop = random_resized_crop(image, (16, 16), (1.0, 1.0), np.random.default_rng(0))
    assert np.abs(crop.astype(int) - 100).max() <= 30


def test_a_view_comes_back_from_weights_and_older_weights_have_theirs():
    view = ClassificationView((128, 96), "centre", 0.8)
    assert ClassificationView.of_weights({"view": {**view.to_dict(), "size": [128, 96]}}, "x") == view
    assert str(view) == "96x128-centre0.8"
    older = {"recipe": {"augment": {"crop": [64, 64]}}}
    assert ClassificationView.of_weights(older, "x") == ClassificationView((64, 64), "whole")
    assert ClassificationView.of_weights({}, "x") == ClassificationView((224, 224), "centre")


@pytest.mark.parametrize(
    "view", [3, {}, {"size": [1]}, {"size": [0, 8], "kind": "whole"}, {"size": [8, 8], "kind": "left"}, {"size": "88"}]
)
def test_garbled_views_are_refused(view):
    with pytest.raises(FeathersegError, match="garbles how images are shown"):
        ClassificationView.of_weights({"view": view}, "x")


def test_crops_as_large_as_the_image_are_the_image():
    image = np.random.default_rng(1).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    whole = random_resized_crop(image, (20, 20), (2.0, 2.0), np.random.default_rng(0))  # no such crop is found
    assert np.array_equal(whole, image)
