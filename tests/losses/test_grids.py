"""Maps read at other maps' pixels: against PyTorch's enlarging, linear functions, and labels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from featherseg.losses.grids import Grid, coordinates, nearest_labels, read_at
from featherseg.models.output import InputSpec

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(SIZES, st.tuples(st.integers(1, 40), st.integers(1, 40)), st.booleans())
def test_read_at_the_images_pixels_a_map_is_what_the_input_spec_enlarges_it_to(size, image, align_corners):
    spec = InputSpec(align_corners=align_corners)
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pixels = Grid(image, image, False)
    found = read_at(maps, Grid(size, image, align_corners), pixels)
    torch.testing.assert_close(found, spec.enlarge(maps, image), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("other", [True, False])
def test_a_slope_across_the_image_is_the_same_slope_on_every_grid(own, other):
    """Between the outermost pixels a map that is the column's place must read as the place of each other pixel."""
    extent = (32, 64)
    read, at = Grid((8, 16), extent, own), Grid((4, 8), extent, other)
    slope = coordinates(16, 64, own).expand(1, 1, 8, 16)
    found = read_at(slope, read, at)[0, 0, 0]
    places = coordinates(8, 64, other).clamp(*(float(p) for p in coordinates(16, 64, own)[[0, -1]]))
    torch.testing.assert_close(found, places)


def test_of_one_grid_the_map_itself_is_returned():
    maps = torch.randn(1, 2, 3, 4)
    grid = Grid((3, 4), (12, 16), True)
    assert read_at(maps, grid, grid) is maps


def test_padding_belongs_to_the_grid_that_has_it():
    """A network that pads 32 columns to 64 has the right half of its map in the padding."""
    maps = torch.arange(8.0).expand(1, 1, 1, 8)
    found = read_at(maps, Grid((1, 8), (32, 64), False), Grid((1, 4), (32, 32), False))
    assert torch.equal(found[0, 0, 0], torch.arange(4.0))


def test_gradients_pass():
    maps = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    grids = Grid((3, 4), (12, 16), True), Grid((5, 3), (12, 16), False)
    assert torch.autograd.gradcheck(lambda x: read_at(x, *grids), maps)


def test_labels_are_those_of_the_nearest_pixels():
    labels = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    assert torch.equal(nearest_labels(labels, Grid((2, 2), (8, 8), True))[0], torch.tensor([[0, 7], [56, 63]]).byte())
    full = F.interpolate(labels[:, None].float(), (4, 4), mode="nearest-exact")[0, 0].byte()
    assert torch.equal(nearest_labels(labels, Grid((4, 4), (8, 8), False))[0], full)


def test_a_pixel_in_the_padding_has_the_label_of_the_images_edge():
    labels = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    assert nearest_labels(labels, Grid((2, 2), (16, 16), True))[0, 1, 1] == 63
