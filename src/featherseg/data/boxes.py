"""What every source of images with boxes offers, whatever is behind it (files or a procedure).

* Boxes are ``x1, y1, x2, y2`` in pixels of the image as ``read`` gives it, the corners of KITTI's label files as they
  stand there: continuous coordinates, no +1 for the last pixel.
* An ignored region is neither positive nor negative: what KITTI marks DontCare, a class left out on purpose (Van while
  Car is learnt). Ignored regions may overlap boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from featherseg.errors import FeathersegError
from featherseg.metrics.kitti import KittiTruth


@dataclass(frozen=True)
class BoxSample:
    """One image and the boxes in it.

    ``image`` is uint8 ``[H, W, 3]`` in RGB; ``boxes`` float32 ``[N, 4]`` as x1, y1, x2, y2 in pixels; ``labels`` int64
    ``[N]`` with 0..K-1, the places of the data set's ``classes``; ``ignored`` float32 ``[M, 4]`` regions that are
    neither positive nor negative; ``key`` names the sample in messages and logs. N and M may be 0.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    key: str


class DetectionDataset(Protocol):
    """A split of a data set of boxes. ``read`` is a pure function of the index."""

    name: str  # of the data set, as protocol strings carry it: "kitti", "streets/320x240"
    split: str  # "train", "val", "test"
    classes: tuple[str, ...]  # a label is a place in it: ("Car",)

    def __len__(self) -> int: ...

    def read(self, index: int) -> BoxSample:
        """Decode one sample. Raises FeathersegError that names the file when it is spoilt."""
        ...

    def key(self, index: int) -> str: ...

    def paths(self, index: int) -> tuple[Path, Path] | None:
        """The image and label file of a sample, or None where there are no files."""
        ...

    def fingerprint(self) -> str:
        """A hash of what would be read (file names and content hashes, or the procedure's version and arguments)."""
        ...


class JudgedDataset(DetectionDataset, Protocol):
    """A :class:`DetectionDataset` that knows how hard its objects are to see, so that it is judged as KITTI is."""

    def truth(self, index: int) -> KittiTruth:
        """All labels of a sample as the judgement takes them, classes that are not learnt included."""
        ...


def nothing_to_find(where: str, members: Sequence[str], images: int) -> FeathersegError:
    """What is wrong with a split whose images show no box of the target's ``members``."""
    return FeathersegError(
        f"{where}: no {' or '.join(members)} in any of its {images:,} images, so there is nothing to learn or to find. "
        "Choose another split or target, or, where scenes are generated, a larger size."
    )
