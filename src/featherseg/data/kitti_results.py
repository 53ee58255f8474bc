"""Result files of KITTI's benchmark: one text file an image, one detection a line, 16 fields.

* The fields are a label's 15 and the score. What a 2D detector does not know holds the values that the benchmark reads
  as unknown: truncation and occlusion -1, angles -10, size -1, place -1000.
* Numbers are written with nine digits, so that a float32 comes back as it was: judging the files gives what judging the
  detections gives.
* An image in which nothing was found has an empty file; a missing file is a fault, and so is one of no image.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from featherseg.data.headers import SpoiltFile
from featherseg.data.kitti_labels import DONT_CARE, FIELDS, KITTI_TYPES, known_type, read_lines, read_numbers
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.metrics.kitti import VEHICLE, KittiDetections

RESULT_FIELDS = (*FIELDS, "score")
RESULT_TYPES = (*(name for name in KITTI_TYPES if name != DONT_CARE), VEHICLE.name)
"""What may be found: KITTI's classes, and the merged class, which the benchmark itself does not judge."""

_UNKNOWN_BEFORE = "-1 -1 -10"
_UNKNOWN_AFTER = "-1 -1 -1 -1000 -1000 -1000 -10"
_MEND = "Write it again with featherseg, or by the benchmark's format."


def result_text(detections: KittiDetections) -> str:
    """The content of one image's file.

    Raises:
        FeathersegError: a class is none of ``RESULT_TYPES``.
    """
    lines = []
    for name, box, score in zip(detections.names, detections.boxes, detections.scores, strict=True):
        if name not in RESULT_TYPES:
            known = ", ".join(RESULT_TYPES)
            raise FeathersegError(f"results: {name!r} is no class of KITTI. Name detections by one of: {known}.")
        corners = " ".join(f"{float(value):.9g}" for value in box)
        lines.append(f"{name} {_UNKNOWN_BEFORE} {corners} {_UNKNOWN_AFTER} {float(score):.9g}\n")
    return "".join(lines)


def write_results(folder: str | Path, keys: Iterable[str], detections: Iterable[KittiDetections]) -> list[Path]:
    """Write one file ``KEY.txt`` for each image, each whole or not at all.

    Raises:
        FeathersegError: a folder that cannot be written, or a class that is none of ``RESULT_TYPES``.
        ValueError: there are not as many keys as detections.
    """
    pairs = zip(keys, detections, strict=True)
    return [atomic_write(Path(folder) / f"{key}.txt", result_text(found)) for key, found in pairs]


def read_result(path: str | Path) -> KittiDetections:
    """Read the detections of one image.

    Raises:
        SpoiltFile: missing or unreadable; a line with another number of fields, an unknown class, a field that is no
            finite number, or a box without area; the message names the line.
    """
    path = Path(path)
    names, rows = [], []
    for number, fields in read_lines(path):
        if len(fields) != len(RESULT_FIELDS):
            hint = ": without a score this is a label file" if len(fields) == len(FIELDS) else ""
            what = f"line {number}: {len(fields)} fields, where a result has {len(RESULT_FIELDS)}{hint}"
            raise SpoiltFile("number of fields", path, what, _MEND)
        names.append(known_type(path, number, fields[0], RESULT_TYPES))
        rows.append(read_numbers(path, number, fields, RESULT_FIELDS))
    values = np.array(rows, np.float64).reshape(-1, len(RESULT_FIELDS) - 1)
    return KittiDetections(tuple(names), values[:, 3:7], values[:, -1])


def read_results(folder: str | Path, keys: Sequence[str]) -> list[KittiDetections]:
    """Read the files of all images of a split, in the order of ``keys``.

    Raises:
        SpoiltFile: as :func:`read_result`.
        FeathersegError: no such folder, images without a file, or files of no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FeathersegError(f"{folder}: no such folder. Give the folder that holds one KEY.txt an image.")
    files, wanted = {path.stem for path in folder.glob("*.txt")}, set(keys)
    missing, strange = sorted(wanted - files), sorted(files - wanted)
    if missing:
        raise FeathersegError(
            f"{folder}: {len(missing):,} of {len(wanted):,} images have no result file, {missing[0]}.txt among them. "
            "An image in which nothing is found needs an empty file."
        )
    if strange:
        raise FeathersegError(
            f"{folder}: {len(strange):,} files belong to no image of the split, {strange[0]}.txt among them. Take them "
            "out, or judge the split they were made for."
        )
    return [read_result(folder / f"{key}.txt") for key in keys]
