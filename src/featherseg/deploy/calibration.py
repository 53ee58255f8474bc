"""Images to calibrate an int8 program with, and others to judge it by, from a data set or a folder of pictures.

Choices worth knowing:

- A program of one fixed size sees what a camera app would show it: the image scaled until it covers that size, and the
  centre cut out. Labels go the same way, by nearest neighbour.
- A data set is calibrated on its first split (train) and judged on its second (val); where there is one split alone, or
  a folder of pictures, every fifth image is kept for judging.
- Images are spread evenly over the split and read when they are asked for: memory does not grow with their number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from featherseg.data.dataset import Sample, SegmentationDataset
from featherseg.data.headers import IMAGE_SUFFIXES
from featherseg.data.images import read_image
from featherseg.data.labels import IGNORE, LabelSet
from featherseg.data.sources import STREETS, available_splits, open_dataset
from featherseg.errors import FeathersegError

LEAST_IMAGES = 10
_EVERY = 5


def covering(picture: np.ndarray, size: tuple[int, int], *, nearest: bool = False) -> np.ndarray:
    """Scale ``[H, W, ...]`` until it covers ``size`` (H, W) and cut out the centre; uint8 stays uint8."""
    height, width = size
    scale = max(height / picture.shape[0], width / picture.shape[1])
    scaled = max(height, round(picture.shape[0] * scale)), max(width, round(picture.shape[1] * scale))
    if scaled != picture.shape[:2]:
        smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        how = cv2.INTER_NEAREST_EXACT if nearest else smooth
        picture = cv2.resize(picture, (scaled[1], scaled[0]), interpolation=how)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


class _Folder:
    """Pictures without labels, as a data set."""

    split = "all"

    def __init__(self, paths: list[Path]) -> None:
        self.pictures = paths

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> Sample:
        image = read_image(self.pictures[index])
        return Sample(image, np.full(image.shape[:2], IGNORE, np.uint8), self.pictures[index].name)


@dataclass(frozen=True)
class Chosen:
    """Some samples of a source, fitted to one size as they are read."""

    source: "SegmentationDataset | _Folder"
    indices: Sequence[int]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Sample]:
        for index in self.indices:
            sample = self.source.read(index)
            yield Sample(covering(sample.image, self.size), covering(sample.label, self.size, nearest=True), sample.key)


@dataclass(frozen=True)
class CalibrationImages:
    """What an int8 program is calibrated with and judged by.

    Attributes:
        name: of the source, as the person gave it.
        calibration: samples that set the ranges.
        judging: other samples.
        labels: the classes of the samples' labels; None where they have none.
    """

    name: str
    calibration: Chosen
    judging: Chosen
    labels: LabelSet | None


def _spread(indices: Sequence[int], count: int) -> list[int]:
    if len(indices) <= count:
        return list(indices)
    return [indices[position * len(indices) // count] for position in range(count)]


def _pictures_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _sources(data: str | Path) -> list["SegmentationDataset | _Folder"]:
    try:
        splits = available_splits(data)
    except FeathersegError:
        pictures = _pictures_below(Path(data)) if Path(data).is_dir() else []
        if not pictures:
            raise
        return [_Folder(pictures)]
    return [open_dataset(data, split) for split in splits[:2]]


def some_pictures(data: str | Path, size: tuple[int, int], count: int = 4) -> Iterator[tuple[str, np.ndarray]]:
    """Names and uint8 RGB ``[H, W, 3]`` of at most ``count`` images of a data set's last split, or of a folder.

    Raises:
        FeathersegError: ``data`` is neither.
    """
    source = _sources(data)[-1]
    chosen = Chosen(source, _spread(range(len(source)), count), size)
    return ((sample.key, sample.image) for sample in chosen)


def calibration_images(
    data: str | Path | None, size: tuple[int, int], *, count: int = 100, judged: int = 20
) -> CalibrationImages:
    """Choose images of ``data`` for a program of ``size`` (H, W).

    Args:
        data: a data set as everywhere, a folder of pictures (with all below), or None for generated street scenes.
        count: at most so many set the ranges.
        judged: at most so many are judged.

    Raises:
        FeathersegError: ``data`` is neither, or it has fewer than ten images to calibrate with.
    """
    sources: list[SegmentationDataset | _Folder]
    if data is None or str(data) == STREETS:
        painted = max(size[0], 64), max(size[1], 64)
        sources = [
            open_dataset(STREETS, split, size=painted, count=n) for split, n in (("train", count), ("val", judged))
        ]
    else:
        sources = _sources(data)
    first, second = sources[0], sources[-1]
    if first is second:
        kept = [index for index in range(len(first)) if index % _EVERY == _EVERY - 1]
        used = [index for index in range(len(first)) if index % _EVERY != _EVERY - 1]
    else:
        used, kept = list(range(len(first))), list(range(len(second)))
    used = _spread(used, count)
    if len(used) < LEAST_IMAGES or not kept:
        raise FeathersegError(
            f"{data}: {len(used)} images to calibrate with, and int8 ranges need at least {LEAST_IMAGES} (100 are "
            "better). Give a data set or a folder with more images of the kind that the network will see."
        )
    labels = None if isinstance(first, _Folder) else first.labels
    return CalibrationImages(
        str(data or STREETS), Chosen(first, used, size), Chosen(second, _spread(kept, judged), size), labels
    )
