"""Anchors: boxes of set sizes and ratios around the cells of a map.

Design choices:
- an anchor's centre is the centre of its cell, (column + 0.5) x stride, not its corner;
- a size is the root of the area, a ratio is height / width: the area does not change with the ratio;
- nothing is rounded and nothing is cut off at the image's border.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AnchorLevel:
    """The anchors of one map: every size with every ratio, in each cell of ``stride`` pixels."""

    stride: int
    sizes: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def count(self) -> int:
        """Anchors of a cell."""
        return len(self.sizes) * len(self.ratios)

    def shapes(self) -> Tensor:
        """Widths and heights, float64 ``[count, 2]``: size by size, in each ratio by ratio."""
        sizes = torch.tensor(self.sizes, dtype=torch.float64)[:, None]
        roots = torch.tensor(self.ratios, dtype=torch.float64).sqrt()
        return torch.stack([sizes / roots, sizes * roots], -1).reshape(-1, 2)


# KITTI's cars are 25 to 300 pixels high and wider than high. Of boxes 40 to 80 pixels high these reach an IoU of 0.5
# for nine in ten at stride 32, the anchors of Faster R-CNN for one in four.
RATIOS = (0.4, 0.6, 0.9)
SINGLE_LEVEL = (AnchorLevel(32, (32, 45, 64, 90, 128, 181, 256, 362), RATIOS),)
THREE_LEVELS = (
    AnchorLevel(8, (22.5, 32, 45), RATIOS),
    AnchorLevel(16, (64, 90, 128), RATIOS),
    AnchorLevel(32, (181, 256, 362), RATIOS),
)


def cell_anchors(shapes: Tensor, rows: int, columns: int, step: tuple[float, float]) -> Tensor:
    """Boxes of ``shapes`` ``[A, 2]`` (width, height) around the centres of ``rows`` x ``columns`` cells.

    Args:
        shapes: in pixels.
        rows, columns: of the map.
        step: of the cells in pixels, (along y, along x).

    Returns:
        float32 ``[rows * columns * A, 4]`` as x1, y1, x2, y2: row by row, cell by cell, shape by shape.
    """
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) * step[0]
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) * step[1]
    centres = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1)[:, :, None]
    half = shapes.double() / 2
    return torch.cat([centres - half, centres + half], -1).reshape(-1, 4).float()


def level_anchors(levels: Sequence[AnchorLevel], height: int, width: int) -> Tensor:
    """The anchors of all ``levels`` for an input of ``height`` x ``width``: float32 ``[N, 4]``, level by level.

    A map has as many cells as strided convolutions leave: the size over the stride, rounded up.
    """
    found = []
    for level in levels:
        rows, columns = -(-height // level.stride), -(-width // level.stride)
        found.append(cell_anchors(level.shapes(), rows, columns, (level.stride, level.stride)))
    return torch.cat(found)
