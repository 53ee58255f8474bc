"""What every source of labelled images offers, whatever is behind it (files, an archive, a procedure)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from featherseg.data.labels import LabelSet


@dataclass(frozen=True)
class Sample:
    """One image and its label.

    ``image`` is uint8 ``[H, W, 3]`` in RGB; ``label`` is uint8 ``[H, W]`` with ids 0..K-1 and 255 = ignore;
    ``key`` names the sample in messages and logs.
    """

    image: np.ndarray
    label: np.ndarray
    key: str


@dataclass(frozen=True)
class Shortfall:
    """How a split differs from the one that published figures are of.

    ``mark`` is what protocol strings say of it ("1 of 3 cities"); ``told`` is for a person: what differs, what that
    means and how to mend it, without the folders of a machine.
    """

    mark: str
    told: str


class SegmentationDataset(Protocol):
    """A split of a segmentation data set. ``read`` is a pure function of the index.

    A source that knows what its splits hold where they are whole has a method ``shortfall() -> Shortfall | None``
    besides, which decodes nothing; :func:`shortfall_of` asks any source.
    """

    name: str  # of the data set and its native size, as protocol strings carry it: "camvid11/480x360"
    split: str  # "train", "val", "test"
    labels: LabelSet

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample:
        """Decode one sample. Raises FeathersegError that names the file when it is spoilt."""
        ...

    def key(self, index: int) -> str: ...

    def paths(self, index: int) -> tuple[Path, Path] | None:
        """The image and label file of a sample, or None where there are no files."""
        ...

    def fingerprint(self) -> str:
        """A hash of what would be read (file names and content hashes, or the procedure's version and arguments)."""
        ...


def shortfall_of(dataset: object) -> Shortfall | None:
    """How a split differs from its official contents; None where it does not, or nobody knows of any."""
    ask = getattr(dataset, "shortfall", None)
    return None if ask is None else ask()


def split_name(dataset: SegmentationDataset) -> str:
    """A split as protocol strings name it: ``val``, or ``val, 1 of 3 cities`` where it is not the official one."""
    shortfall = shortfall_of(dataset)
    return dataset.split if shortfall is None else f"{dataset.split}, {shortfall.mark}"
