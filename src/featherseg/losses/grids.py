"""Maps of two networks on one image, read at each other's pixels: strides and corner conventions may differ.

A network's logits at stride 8 with corners aligned and another's at stride 4 with half-pixel centres have no pixel in
common but the frame. A :class:`Grid` says where a map's pixels lie in the image; :func:`read_at` reads a map,
bilinearly, where the pixels of another grid lie. Onto the image's own pixels that is ``InputSpec.enlarge``.

Design choices:
- the two directions are two matrices of two entries a row. Their products give gradients of gradients, in float64 too,
  and cost little at the strides where networks give logits; onto full size, ``InputSpec.enlarge`` is quicker;
- a map of one pixel lies in the middle and is the same everywhere.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from featherseg.models.output import InputSpec


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a map lie.

    Attributes:
        size: (h, w) of the map.
        extent: (H, W) of the image that it covers, with the padding that the network adds.
        align_corners: whether the first and last pixels lie on the image's first and last, or on the centres of the
            cells that the map cuts the image into.
    """

    size: tuple[int, int]
    extent: tuple[int, int]
    align_corners: bool


def grid_of(maps: Tensor, spec: InputSpec, image: tuple[int, int]) -> Grid:
    """Where the pixels of a network's ``[B, C, h, w]`` lie, for images of size ``image`` (H, W)."""
    return Grid((maps.shape[-2], maps.shape[-1]), spec.padded_size(*image), spec.align_corners)


def coordinates(count: int, extent: int, align_corners: bool) -> Tensor:
    """Where each of ``count`` pixels over ``extent`` lies, in the image's pixels from 0, float64."""
    index = torch.arange(count, dtype=torch.float64)
    if align_corners and count > 1:
        return index * ((extent - 1) / (count - 1))
    return (index + 0.5) * (extent / count) - 0.5


@lru_cache(maxsize=64)
def _weights(read: tuple[int, int, bool], at: tuple[int, int, bool]) -> Tensor:
    """float64 ``[at, read]``: what each pixel of ``read`` counts at each of ``at``; (count, extent, align_corners)."""
    count, extent, align_corners = read
    place = coordinates(*at)
    if align_corners and count > 1:
        index = place * ((count - 1) / (extent - 1)) if extent > 1 else torch.zeros_like(place)
    else:
        index = (place + 0.5) * (count / extent) - 0.5
    index = index.clamp(0, count - 1)
    lower = index.floor().long().clamp(max=max(0, count - 2))
    share = index - lower
    weights = torch.zeros(len(place), count, dtype=torch.float64)
    weights.scatter_add_(1, lower[:, None], (1 - share)[:, None])
    weights.scatter_add_(1, (lower + 1).clamp(max=count - 1)[:, None], share[:, None])
    return weights


def read_at(maps: Tensor, grid: Grid, at: Grid) -> Tensor:
    """``[B, C, h, w]`` that lies on ``grid``, bilinearly at the pixels of ``at``: ``[B, C, *at.size]``.

    Beyond its outermost pixels a map is continued by them. The same tensor where the grids are the same.
    """
    if grid == at:
        return maps
    sides = [
        _weights(
            (grid.size[side], grid.extent[side], grid.align_corners), (at.size[side], at.extent[side], at.align_corners)
        ).to(maps)
        for side in (0, 1)
    ]
    return sides[0] @ maps @ sides[1].T


def nearest_labels(labels: Tensor, at: Grid) -> Tensor:
    """uint8 labels ``[B, H, W]`` of the image pixels nearest to those of ``at``: ``[B, *at.size]``.

    Pixels of ``at`` that lie in a network's padding get the label of the image's edge.
    """
    rows, columns = (
        coordinates(at.size[side], at.extent[side], at.align_corners)
        .add(0.5)
        .floor()
        .long()
        .clamp(0, labels.shape[1 + side] - 1)
        .to(labels.device)
        for side in (0, 1)
    )
    return labels[:, rows[:, None], columns]
