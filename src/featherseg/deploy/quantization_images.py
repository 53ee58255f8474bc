"""Images that set the ranges of an int8 program, and others that judge it, with their labels or without.

Choices worth knowing:

- A program that takes any size sees images as they are; one of a single size sees them fitted to it, as
  deploy/calibration.py does.
- Ranges are set by the first split of a data set (train); it is judged on another split, ``val`` unless another one is
  named, or on another data set. Of a folder of pictures every fifth is kept for judging.
- Judging on images that set the ranges is refused: it would say that nothing is lost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherseg.data.dataset import Sample
from featherseg.data.headers import IMAGE_SUFFIXES
from featherseg.data.images import read_image
from featherseg.data.labels import IGNORE, LabelSet
from featherseg.data.sources import STREETS, available_splits, is_segmented, open_dataset
from featherseg.deploy.calibration import LEAST_IMAGES, calibration_images, covering
from featherseg.errors import FeathersegError

_SCENE = (240, 320)


class Pictures:
    """A folder of pictures without labels, with all below it, as a data set."""

    split = "all"

    def __init__(self, folder: str | Path) -> None:
        found = Path(folder).rglob("*") if Path(folder).is_dir() else ()
        self.files = sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Sample:
        image = read_image(self.files[index])
        return Sample(image, np.full(image.shape[:2], IGNORE, np.uint8), self.files[index].name)


@dataclass(frozen=True)
class Samples:
    """Some samples of a source, read when they are asked for, as often as they are.

    Attributes:
        source: a data set's split or a folder of pictures.
        indices: which of its samples.
        size: (H, W) that they are fitted to; None leaves them as they are.
    """

    source: Any
    indices: Sequence[int]
    size: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Sample]:
        for index in self.indices:
            sample = self.source.read(index)
            if self.size is None:
                yield sample
                continue
            label = covering(sample.label, self.size, nearest=True)
            yield Sample(covering(sample.image, self.size), label, sample.key)

    def spread(self, count: int) -> "Samples":
        """At most ``count`` of them, evenly spread."""
        if len(self) <= count:
            return self
        return Samples(self.source, [self.indices[n * len(self) // count] for n in range(count)], self.size)


@dataclass(frozen=True)
class QuantizationImages:
    """What an int8 program is calibrated with and judged by.

    Attributes:
        calibration, judging: the samples.
        calibrated_on, judged_on: their sources and splits in words.
        labels: the classes of the judging samples' labels; None where they have none.
    """

    calibration: Samples
    judging: Samples
    calibrated_on: str
    judged_on: str
    labels: LabelSet | None


def quantization_images(
    calibrate: str | Path,
    judge: str | Path | None,
    split: str,
    size: tuple[int, int] | None,
    *,
    count: int = 100,
    judged: int | None = None,
) -> QuantizationImages:
    """Choose the images.

    Args:
        calibrate: a data set as everywhere, or a folder of pictures.
        judge: another of those; ``calibrate`` itself, if None.
        split: of a data set that judges.
        size: (H, W) that images are fitted to; None leaves them as they are.
        count: at most so many set the ranges.
        judged: judge on at most so many, evenly spread; on all, if None.

    Raises:
        FeathersegError: a source is none or holds nothing, there is no such split, there are fewer than ten images to
            calibrate with, or the judging images set the ranges.
    """
    if count < LEAST_IMAGES:
        raise FeathersegError(f"--count {count}: int8 ranges need at least {LEAST_IMAGES} images; 100 are better.")
    if judged is not None and judged < 1:
        raise FeathersegError(f"--judged {judged} judges nothing. Give at least 1.")
    for data in (calibrate, judge):
        _must_hold_images(data)
    own = calibration_images(calibrate, size or _SCENE, count=count, judged=10**9)
    first = own.calibration.source
    calibration = Samples(first, own.calibration.indices, size)
    if judge is None or _same(judge, calibrate):
        if own.labels is None:
            source, indices, labels = own.judging.source, own.judging.indices, None
        elif split in available_splits(calibrate) or judge is not None:
            source = open_dataset(calibrate, split)
            indices, labels = range(len(source)), source.labels
            if source.split == first.split:
                raise FeathersegError(
                    f"{calibrate}: the split {split!r} sets the ranges, so that judging on it would say nothing. Name "
                    "another one with --split, or another data set with --judge."
                )
        else:
            source, indices, labels = own.judging.source, own.judging.indices, own.labels
        judge = calibrate
    elif is_segmented(judge):
        source = open_dataset(judge, split)
        indices, labels = range(len(source)), source.labels
    else:
        source = Pictures(judge)
        indices, labels = range(len(source)), None
    judging = Samples(source, indices, size)
    judging = judging if judged is None else judging.spread(judged)
    return QuantizationImages(calibration, judging, _named(calibrate, first), _named(judge, source), labels)


def _named(data: str | Path, source: Any) -> str:
    """A source's last name, without the folders of this machine, and its split."""
    return f"{Path(data).resolve().name}/{source.split}"


def _same(one: str | Path, other: str | Path) -> bool:
    if STREETS in (str(one), str(other)):
        return str(one) == str(other)
    return Path(one).resolve() == Path(other).resolve()


def _must_hold_images(data: str | Path | None) -> None:
    """Say of a folder without pictures that it has none, instead of what a data set looks like."""
    if data is not None and Path(data).is_dir() and not is_segmented(data) and not len(Pictures(data)):
        raise FeathersegError(
            f"{data}: holds no pictures. Give a data set, or a folder with at least {LEAST_IMAGES} pictures of the "
            "kind that the network will see."
        )
