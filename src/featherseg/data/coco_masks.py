"""COCO segmentations (polygons, run lengths) to the pixels they cover, equal to pycocotools to the pixel.

* Polygons follow the rule COCO's own masks are made by: vertices are rounded to a grid five times as fine, edges are
  stepped along it, and every pixel column is filled between the crossings at its centre (even-odd). Usual polygon
  fillers include the whole outline, which swells every object by about half a pixel.
* Only the polygon's bounding box is filled. The rule is even-odd within a polygon; several polygons are united.
* A segmentation that draws nothing (empty, fewer than three points, wholly outside) is odd but harmless, and says so;
  one that contradicts itself or its image is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_FINE = 5
_CENTRE = 2  # of the five fine columns of a pixel; a crossing from it to the next one toggles the pixel column
FARTHEST = 10
"""How many image sizes away from the image a polygon may reach; the cost of stepping its edges grows with it."""


class BadSegmentation(ValueError):
    """A segmentation that cannot be drawn: ``kind`` is a short name of the fault, the message says what is wrong."""

    def __init__(self, kind: str, what: str) -> None:
        self.kind = kind
        super().__init__(what)


@dataclass(frozen=True)
class Shapes:
    """A checked segmentation of an image of ``height`` x ``width`` pixels.

    ``polygons`` are float64 ``[N, 2]`` of x, y in pixels; ``runs`` are the run lengths of an RLE, down the columns,
    beginning with pixels outside. ``idle`` names what of it draws nothing: a kind of fault to what is wrong.
    """

    height: int
    width: int
    polygons: tuple[np.ndarray, ...] = ()
    runs: np.ndarray | None = None
    idle: tuple[tuple[str, str], ...] = ()

    def most_pixels(self) -> int:
        """An upper bound of the pixels covered, found without filling anything."""
        if self.runs is not None:
            return int(self.runs[1::2].sum())
        total = 0
        for polygon in self.polygons:
            sides = np.floor(polygon.max(0)) - np.floor(polygon.min(0)) + 2
            total += int(sides[0] * sides[1])
        return min(total, self.height * self.width)


@dataclass(frozen=True)
class Patch:
    """Part of a mask: bool ``[H, W]``, its first pixel at (``top``, ``left``) of the image."""

    top: int
    left: int
    covered: np.ndarray

    def of(self, image: np.ndarray) -> np.ndarray:
        """The part of ``image`` that lies under the patch, as a view."""
        height, width = self.covered.shape
        return image[self.top : self.top + height, self.left : self.left + width]


def fill_polygon(polygon: np.ndarray, height: int, width: int) -> Patch | None:
    """Return the pixels of an image that a polygon ``[N, 2]`` of x, y covers; None where there are none.

    The pixel (row, column) has its centre at x = column + 0.5, y = row + 0.5.
    """
    fine = np.trunc(_FINE * polygon + 0.5).astype(np.int64)
    across, down = _path(fine, np.roll(fine, -1, 0))
    left = np.minimum(across[1:], across[:-1])
    column = left // _FINE
    toggles = (across[1:] != across[:-1]) & (left % _FINE == _CENTRE) & (column >= 0) & (column < width)
    if not toggles.any():
        return None
    columns = column[toggles]
    rows = np.clip(-((_CENTRE - np.minimum(down[1:], down[:-1])[toggles]) // _FINE), 0, height)
    first, top = int(columns.min()), int(rows.min())
    size = int(columns.max()) - first + 1, int(rows.max()) - top + 1
    counts = np.bincount((columns - first) * size[1] + rows - top, minlength=size[0] * size[1]).astype(np.uint8)
    inside = np.bitwise_xor.accumulate(counts.reshape(size) & 1, axis=1)
    # The last row holds closing crossings alone: each column is crossed an even number of times.
    return Patch(top, first, inside.T[:-1].astype(bool))


def _path(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step along closed edges on the fine grid, one point for every unit of each edge's longer side."""
    change = end - start
    longer = np.abs(change).max(1)
    flat = np.abs(change[:, 0]) >= np.abs(change[:, 1])
    # An edge is stepped from its lower end in the longer direction, whichever end comes first.
    flipped = np.where(flat, change[:, 0] < 0, change[:, 1] < 0)
    origin = np.where(flipped[:, None], end, start)
    shorter = np.where(flat, change[:, 1], change[:, 0]) * np.where(flipped, -1, 1)
    slope = shorter / np.maximum(longer, 1)
    edge = np.repeat(np.arange(len(start)), longer + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(longer + 1) - longer - 1, longer + 1)
    step = np.where(flipped[edge], longer[edge] - step, step)
    along = np.where(flat, origin[:, 0], origin[:, 1])[edge] + step
    base = np.where(flat, origin[:, 1], origin[:, 0])[edge]
    beside = np.trunc(base + slope[edge] * step + 0.5).astype(np.int64)
    return np.where(flat[edge], along, beside), np.where(flat[edge], beside, along)


def decode_runs(counts: str) -> np.ndarray:
    """Return the run lengths of a compressed RLE: signed numbers of 5 bits a character, from the fourth on as the
    difference from the one two before.

    Raises:
        BadSegmentation: characters outside the alphabet, or a number that breaks off.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise BadSegmentation("bad RLE", "has an RLE whose compressed counts are garbled")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise BadSegmentation("bad RLE", "has an RLE whose compressed counts break off")
    try:
        return np.array(runs, np.int64)
    except OverflowError:
        raise BadSegmentation("bad RLE", "has an RLE whose compressed counts are garbled") from None


def read_segmentation(segmentation: Any, height: int, width: int) -> Shapes:
    """Check the value of an annotation's ``segmentation`` against the image's size.

    Raises:
        BadSegmentation: neither polygons nor RLE, coordinates that are no numbers or far away, an RLE of another size
            or whose runs do not fill it.
    """
    if isinstance(segmentation, dict):
        return Shapes(height, width, runs=_read_runs(segmentation, height, width))
    if segmentation is None or segmentation == []:
        return Shapes(height, width, idle=(("empty segmentation", "an empty segmentation"),))
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        raise BadSegmentation("bad segmentation", "has a segmentation that is neither a list of polygons nor an RLE")
    polygons, idle = [], []
    for part in segmentation:
        polygon = _read_polygon(part, height, width)
        if len(polygon) < 3:
            idle.append(("too few points", "a polygon of fewer than three points"))
        elif (polygon.max(0) <= 0).any() or (polygon.min(0) >= (width, height)).any():
            idle.append(("outside the image", "a polygon wholly outside its image"))
        else:
            polygons.append(polygon)
    return Shapes(height, width, tuple(polygons), idle=tuple(idle))


def _read_polygon(part: list, height: int, width: int) -> np.ndarray:
    try:
        flat = np.array(part, np.float64)
    except (TypeError, ValueError, OverflowError):
        flat = np.full(1, np.nan)
    if flat.ndim != 1 or not np.isfinite(flat).all():
        raise BadSegmentation("bad segmentation", "has a polygon whose coordinates are not all numbers")
    if len(flat) % 2:
        raise BadSegmentation("bad segmentation", f"has a polygon of {len(flat)} coordinates, an odd number")
    if len(flat) and np.abs(flat).max() > FARTHEST * max(height, width):
        what = (
            f"has a polygon that reaches to {flat[np.abs(flat).argmax()]:g}, far outside the {width} x {height} image"
        )
        raise BadSegmentation("outside the image", what)
    return flat.reshape(-1, 2)


def _read_runs(segmentation: dict, height: int, width: int) -> np.ndarray:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        shown = f"{size[1]} x {size[0]}" if isinstance(size, list) and len(size) == 2 else f"{size!r}"
        raise BadSegmentation("RLE size", f"has an RLE of size {shown}, but its image is {width} x {height}")
    if isinstance(counts, str):
        runs = decode_runs(counts)
    elif isinstance(counts, list) and all(type(count) is int and count < 1 << 62 for count in counts):
        runs = np.array(counts, np.int64)
    else:
        raise BadSegmentation("bad RLE", "has an RLE without counts")
    if (runs < 0).any() or (runs > height * width).any() or runs.sum() != height * width:
        what = f"has an RLE whose runs do not add up to its image's {height * width} pixels"
        raise BadSegmentation("bad RLE", what)
    return runs


def patches(shapes: Shapes) -> Iterator[Patch]:
    """Yield the parts of the mask of a segmentation; they may overlap."""
    if shapes.runs is not None:
        inside = np.repeat(np.arange(len(shapes.runs)) % 2 == 1, shapes.runs)
        yield Patch(0, 0, inside.reshape(shapes.width, shapes.height).T)
    for polygon in shapes.polygons:
        patch = fill_polygon(polygon, shapes.height, shapes.width)
        if patch is not None:
            yield patch


def draw(label: np.ndarray, shapes: Shapes, number: int) -> None:
    """Write ``number`` where a segmentation covers ``label`` ``[H, W]``, over what stood there."""
    for patch in patches(shapes):
        patch.of(label)[patch.covered] = number
