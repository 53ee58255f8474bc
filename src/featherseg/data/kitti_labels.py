"""KITTI's label files: one text file an image, one object a line, 15 fields.

* A field that is wrong is never guessed at: the message names the file, the line and the field.
* An empty file is an image without objects. DontCare marks regions in which objects were not labelled.
* Corners are continuous pixels from the left upper corner. The image is not known here: :func:`check_inside` compares
  them with its size; the data set's own labels stay within a pixel of it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherseg.data.headers import SpoiltFile
from featherseg.errors import FeathersegError, nearest
from featherseg.metrics.kitti import CAR, VEHICLE, KittiTruth

FIELDS = (
    "type", "truncated", "occluded", "alpha", "left", "top", "right", "bottom", "height", "width", "length",
    "x", "y", "z", "rotation_y",
)  # fmt: skip
DONT_CARE = "DontCare"
KITTI_TYPES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", DONT_CARE)
TOLERANCE = 1.0
"""Pixels by which a box may leave its image."""


@dataclass(frozen=True)
class Target:
    """What is learnt as one class: the types that belong to it, and those that are neither it nor background."""

    name: str
    members: tuple[str, ...]
    ignored: tuple[str, ...]


TARGETS = {
    judged.name: Target(judged.name, judged.members, (*judged.neighbours, DONT_CARE)) for judged in (CAR, VEHICLE)
}
"""Car alone, as the benchmark judges it, with its neighbour Van ignored; or Car, Van and Truck as one class."""

_RESTORE = "Restore the file from the original data set, or mend the line."


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number, from 1, and fields of each line of a file that holds anything.

    Raises:
        SpoiltFile: the file is missing, unreadable or not text.
    """
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise SpoiltFile("missing file", path, "no such file", "Copy it again, or leave its image out.") from None
    except OSError as error:
        mend = "Check its permissions and the disk it lies on."
        raise SpoiltFile("unreadable file", path, f"cannot be read: {error.strerror}", mend) from error
    except UnicodeDecodeError:
        raise SpoiltFile("corrupt file", path, "is not plain text", _RESTORE) from None
    for number, line in enumerate(text.splitlines(), 1):
        if fields := line.split():
            yield number, fields


def known_type(path: Path, number: int, name: str, types: tuple[str, ...] = KITTI_TYPES) -> str:
    """``name``, which must be one of ``types``.

    Raises:
        SpoiltFile: it is not.
    """
    if name not in types:
        what = f"line {number}: no class is called {name!r}{nearest(name, types)}"
        raise SpoiltFile("unknown class", path, what, f"There are: {', '.join(types)}.")
    return name


def read_numbers(path: Path, number: int, fields: list[str], names: tuple[str, ...] = FIELDS) -> list[float]:
    """The fields after the first as numbers; ``names`` are those of all fields.

    Raises:
        SpoiltFile: a field is no finite number, or the right lower corner is not to the right of and below the left
            upper one.
    """
    values = []
    for name, field in zip(names[1:], fields[1:], strict=True):
        try:
            value = float(field)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            what = f"line {number}: the field {name!r} is {field!r}, not a number"
            raise SpoiltFile("not a number", path, what, _RESTORE)
        values.append(value)
    left, top, right, bottom = values[3:7]
    if right <= left or bottom <= top:
        what = f"line {number}: the box {corners_text(values[3:7])} has no area"
        raise SpoiltFile("empty box", path, what, "A box is left, top, right, bottom. Mend it or take the line out.")
    return values


def target_of(name: str) -> Target:
    """The target called ``name``.

    Raises:
        FeathersegError: none is called so.
    """
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        raise FeathersegError(f"no target of detection is called {name!r}{nearest(name, TARGETS)}. There are: {known}.")
    return TARGETS[name]


def split_by_target(truth: KittiTruth, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """The boxes to be learnt and the regions to be ignored, float32 ``[N, 4]`` and ``[M, 4]``; the rest: background."""
    boxes = truth.boxes.astype(np.float32)
    wanted = np.array([name in target.members for name in truth.names], bool)
    ignored = np.array([name in target.ignored for name in truth.names], bool)
    return boxes[wanted], boxes[ignored]


def corners_text(box: list[float] | np.ndarray) -> str:
    """Corners as messages show them, ``(12, 3.5, 40, 20.25)``."""
    return f"({', '.join(f'{float(value):g}' for value in box)})"


def read_labels(path: str | Path) -> KittiTruth:
    """Read the label file of one image; boxes are float64 ``[N, 4]`` in the file's order.

    Raises:
        SpoiltFile: missing or unreadable; a line with another number of fields, an unknown class, a field that is no
            finite number or not in its range, or a box without area; the message names the line.
    """
    path = Path(path)
    names, rows = [], []
    for number, fields in read_lines(path):
        if len(fields) != len(FIELDS):
            hint = ", the last of which is a score: this is a result file" if len(fields) == len(FIELDS) + 1 else ""
            what = f"line {number}: {len(fields)} fields{hint}, where a label has {len(FIELDS)}"
            raise SpoiltFile("number of fields", path, what, _RESTORE)
        name = known_type(path, number, fields[0])
        values = read_numbers(path, number, fields)
        if name != DONT_CARE:
            _check_ranges(path, number, values)
        names.append(name)
        rows.append(values[:7])
    values = np.array(rows, np.float64).reshape(-1, 7)
    return KittiTruth(tuple(names), values[:, 3:7], values[:, 0], values[:, 1].astype(np.int64))


def _check_ranges(path: Path, number: int, values: list[float]) -> None:
    truncated, occluded = values[:2]
    if not 0 <= truncated <= 1:
        what = f"line {number}: 'truncated' is {truncated:g}, where a share from 0 to 1 is meant"
        raise SpoiltFile("out of range", path, what, _RESTORE)
    if occluded not in (0, 1, 2, 3):
        what = f"line {number}: 'occluded' is {occluded:g}, which is none of 0, 1, 2 and 3"
        raise SpoiltFile("out of range", path, what, _RESTORE)


def check_inside(path: Path, truth: KittiTruth, size: tuple[int, int]) -> None:
    """Hold the boxes of an image against its size (width, height).

    Raises:
        SpoiltFile: a box leaves the image by more than a pixel; the message gives the first one.
    """
    width, height = size
    low, high = truth.boxes[:, :2], truth.boxes[:, 2:]
    beyond = (low < -TOLERANCE).any(1) | (high > np.array([width, height]) + TOLERANCE).any(1)
    if beyond.any():
        first = int(np.flatnonzero(beyond)[0])
        what = (
            f"the box {corners_text(truth.boxes[first])} of object {first + 1} ({truth.names[first]}) leaves its image "
            f"of {width} x {height}"
        )
        raise SpoiltFile("box outside", path, what, "Is it the label of another image? Else cut the box or remove it.")
