"""Normalising, padding and enlarging, against plain numpy."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.models.output import InputSpec

BGR = InputSpec(color_order="BGR", mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229), min_size=32)


def align_corners_oracle(grid, height, width, align_corners):
    """Bilinear values at pixel (y, x), one at a time."""

    def place(i, new, old):
        if align_corners:
            return i * (old - 1) / (new - 1) if new > 1 else 0.0
        return min(max((i + 0.5) * old / new - 0.5, 0), old - 1)

    result = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            v, u = place(y, height, grid.shape[0]), place(x, width, grid.shape[1])
            top, left = int(v), int(u)
            bottom, right = min(top + 1, grid.shape[0] - 1), min(left + 1, grid.shape[1] - 1)
            upper = grid[top, left] * (1 - (u - left)) + grid[top, right] * (u - left)
            lower = grid[bottom, left] * (1 - (u - left)) + grid[bottom, right] * (u - left)
            result[y, x] = upper * (1 - (v - top)) + lower * (v - top)
    return result


@pytest.mark.parametrize("spec", [InputSpec(), BGR], ids=["RGB", "BGR"])
def test_normalising_follows_the_formula(spec):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    ordered = pixels[..., ::-1] if spec.color_order == "BGR" else pixels
    expected = ((ordered / 255 - np.array(spec.mean)) / np.array(spec.std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(spec.normalise(torch.from_numpy(pixels)).numpy(), expected, atol=2e-6)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    min_size=st.integers(1, 10),
    align_corners=st.booleans(),
)
def test_enlarging_is_bilinear_on_the_padded_size_and_cut(size, grid, min_size, align_corners):
    spec = InputSpec(min_size=min_size, align_corners=align_corners)
    values = np.random.default_rng(sum(size)).normal(size=grid)
    height, width = max(size[0], min_size), max(size[1], min_size)
    expected = align_corners_oracle(values, height, width, align_corners)[: size[0], : size[1]]
    enlarged = spec.enlarge(torch.from_numpy(values)[None, None], size)[0, 0].numpy()
    np.testing.assert_allclose(enlarged, expected, atol=1e-6)


def test_padding_is_zeros_at_the_right_and_the_bottom():
    images = torch.ones(1, 3, 5, 40)
    padded = BGR.pad(images)
    assert padded.shape == (1, 3, 32, 40)
    assert torch.equal(padded[:, :, :5], images)
    assert not padded[:, :, 5:].any()


def test_a_large_image_is_not_copied():
    images = torch.ones(1, 3, 32, 33)
    assert BGR.pad(images) is images


def test_the_spec_survives_json():
    assert InputSpec.from_dict(json.loads(json.dumps(BGR.to_dict()))) == BGR


@pytest.mark.parametrize(
    "wrong",
    [
        {"color_order": "GBR"},
        {"mean": (0.5, 0.5)},
        {"std": (0.2, 0.0, 0.2)},
        {"mean": (float("nan"), 0.5, 0.5)},
        {"min_size": 0},
        {"output_stride": 4.0},
        {"align_corners": 1},
    ],
    ids=str,
)
def test_a_wrong_field_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InputSpec(**wrong)
