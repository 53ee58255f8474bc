"""COCO 2017 (Lin et al. 2014) for semantic segmentation, from its official JSON and pictures.

* By default the background and nine classes of the street, as Türkmen and Heikkilä 2019 pre-train on: annotations are
  drawn in file order, later ones over earlier ones, crowds included, and images with at least 1,000 labelled pixels
  are kept. Everything that is not drawn is background, which is a class; nothing is ignored.
* Label maps are drawn when a sample is read, to the pixel as COCO's own tools draw them
  (:mod:`featherseg.data.coco_masks`).
* The fingerprint hashes the JSON, but of the pictures names and sizes in bytes alone: reading 18 GB at every start of
  a training would take minutes.
"""

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from featherseg.data.coco_cache import json_sha256, open_index
from featherseg.data.coco_index import UNDRAWABLE, Advance, Oddity, read_annotations
from featherseg.data.coco_masks import BadSegmentation, draw, read_segmentation
from featherseg.data.dataset import Sample
from featherseg.data.headers import SpoiltFile
from featherseg.data.images import read_image
from featherseg.data.labels import LabelSet
from featherseg.data.pairs import some_names
from featherseg.data.palette import distinct_colours
from featherseg.errors import FeathersegError, nearest

SPLITS = ("train", "val")
ARCHIVES = {"train": "train2017.zip (18 GB)", "val": "val2017.zip (1 GB)"}
ANNOTATIONS_ARCHIVE = "annotations_trainval2017.zip (241 MB)"
SITE = "cocodataset.org"

CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "stop sign", "parking meter")
"""The nine classes of Türkmen and Heikkilä 2019, ids 1 to 9 in the order of COCO's categories."""
MIN_PIXELS = 1000
"""Labelled pixels that an image must show to be kept. The paper says "over 1000", the published code drops fewer than
1000, which is followed."""

_BACKGROUND = ("background", (0, 0, 0))
_COLOURS = (
    (220, 20, 60), (119, 11, 32), (0, 0, 142), (0, 0, 230), (0, 60, 100), (0, 80, 100), (0, 0, 70), (220, 220, 0),
    (153, 153, 153),
)  # fmt: skip
_SECONDS_BETWEEN_LINES = 10


def json_path(root: Path, split: str) -> Path:
    """Where the annotations of a split lie."""
    return root / "annotations" / f"instances_{split}2017.json"


def image_folder(root: Path, split: str) -> Path | None:
    """The folder of a split's pictures, or None where there is none."""
    places = (root / f"{split}2017", root / "images" / f"{split}2017")
    return next((place for place in places if place.is_dir()), None)


def coco_splits(root: Path) -> list[str]:
    """Return the splits of a COCO 2017 folder, those of which only pictures or only annotations are there included."""
    return [s for s in SPLITS if json_path(root, s).is_file() or image_folder(root, s) is not None]


def coco_labels(names: Sequence[str]) -> LabelSet:
    """The label set of a choice of categories: the background, then these."""
    names = tuple(names)
    colours = _COLOURS if names == CLASSES else distinct_colours(len(names))
    # Other choices of as many classes have another name: networks and figures are compared by it.
    name = f"coco{len(names)}"
    if names != CLASSES and len(names) != 80:
        name += f"-{hashlib.sha256(repr(names).encode()).hexdigest()[:6]}"
    return LabelSet(name, (_BACKGROUND[0], *names), (_BACKGROUND[1], *colours))


def _sparse_lines(path: Path) -> Advance:
    """Tell on stderr, every ten seconds, how far the index is."""
    last = time.monotonic()

    def advance(percent: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES and os.environ.get("RANK", "0") == "0":
            last = time.monotonic()
            print(f"{path.name}: {percent} % indexed (once)", file=sys.stderr, flush=True)

    return advance


class Coco:
    """One split of COCO 2017 as a :class:`~featherseg.data.dataset.SegmentationDataset`.

    Args:
        root: holds ``annotations/instances_SPLIT2017.json`` and ``SPLIT2017/`` or ``images/SPLIT2017/``.
        split: "train" or "val".
        classes: names of categories, for ids 1, 2, ... in this order; "all" for all 80, in the JSON's order.
        min_pixels: images that show fewer labelled pixels are left out; 0 keeps all.
        cache: folder for the index of the JSON; by default the user's cache folder, and for a large JSON alone.
        lenient: keep an empty split, missing pictures and wrong annotations (for the checker) instead of refusing.

    Raises:
        FeathersegError: the JSON or the pictures are missing, the JSON is garbled or has annotations that cannot be
            drawn or are of unknown images or categories, a class is not in it, or no image is left.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        classes: Sequence[str] = CLASSES,
        min_pixels: int = MIN_PIXELS,
        cache: str | Path | None = None,
        lenient: bool = False,
    ) -> None:
        root = Path(root)
        if split not in SPLITS:
            raise FeathersegError(
                f"{root}: no COCO split {split!r}. There are: {', '.join(SPLITS)}{nearest(split, SPLITS)}."
            )
        if isinstance(classes, str) and classes != "all":
            raise FeathersegError(f"classes={classes!r}: give a list of category names, or 'all'.")
        self.root, self.split = root, split
        self.json, folder = json_path(root, split), image_folder(root, split)
        if not self.json.is_file():
            raise SpoiltFile("missing file", self.json, "no such file", _how_to_get(ANNOTATIONS_ARCHIVE, root))
        if folder is None:
            what = f"neither {split}2017/ nor images/{split}2017/ is there"
            raise SpoiltFile("missing images", root, what, _how_to_get(ARCHIVES[split], root))
        self.folder = folder
        self._json_sha256 = json_sha256(self.json)
        self._index = open_index(
            self.json,
            None if classes == "all" else tuple(classes),
            min_pixels,
            sha256=self._json_sha256,
            cache=Path(cache) if cache is not None else None,
            advance=_sparse_lines(self.json),
        )
        self.labels = coco_labels(self._index.classes)
        self.min_pixels = min_pixels
        self.name = f"{self.labels.name}{'' if min_pixels == MIN_PIXELS else f'-min{min_pixels}'}/mixed"
        if not lenient:
            self._refuse()

    def _refuse(self) -> None:
        for oddity in self._index.oddities:
            if oddity.level == "error":
                raise SpoiltFile(oddity.kind, oddity.where, oddity.what, oddity.mend)
        if not len(self):
            raise FeathersegError(
                f"{self.json}: none of its {self._index.listed:,} images shows {self.min_pixels:,} pixels of "
                f"{', '.join(self.labels.classes[1:])}. Choose other classes or a smaller min_pixels."
            )
        there = {entry.name for entry in os.scandir(self.folder)}
        missing = [path for path in map(self._image, range(len(self))) if path.name not in there]
        if missing:
            what = f"{len(missing):,} of {len(self):,} images are missing: {some_names(missing)}"
            raise SpoiltFile("missing file", self.folder, what, _how_to_get(ARCHIVES[self.split], self.root))

    def __len__(self) -> int:
        return len(self._index)

    def _image(self, index: int) -> Path:
        return self.folder / PurePosixPath(self._index.names[index]).name

    def key(self, index: int) -> str:
        return self._image(index).stem

    def paths(self, index: int) -> tuple[Path, Path]:
        """The picture, and the JSON that its label is drawn from."""
        return self._image(index), self.json

    def oddities(self) -> tuple[Oddity, ...]:
        """What is odd or wrong in the JSON; annotations that cannot be drawn are found by :meth:`examine`."""
        return tuple(oddity for oddity in self._index.oddities if oddity.kind != UNDRAWABLE)

    def label(self, index: int) -> np.ndarray:
        """Draw the label map of a sample, uint8 ``[H, W]``.

        Raises:
            SpoiltFile: an annotation cannot be drawn.
        """
        label, faults = self._draw(index)
        if faults:
            raise faults[0]
        return label

    def _draw(self, index: int) -> tuple[np.ndarray, list[SpoiltFile]]:
        height, width = self._index.sizes[index].tolist()
        label, faults = np.zeros((height, width), np.uint8), []
        own = slice(*self._index.first[index : index + 2].tolist())
        annotations = read_annotations(self.json, self._index.starts[own], self._index.lengths[own])
        for annotation, number in zip(annotations, self._index.numbers[own].tolist(), strict=True):
            try:
                draw(label, read_segmentation(annotation.get("segmentation"), height, width), number)
            except BadSegmentation as fault:
                what = f"annotation {annotation.get('id')} ({self.labels.classes[number]}) {fault}"
                mend = f"Mend or remove it in {self.json.name}."
                faults.append(SpoiltFile(fault.kind, self._image(index), what, mend))
        return label, faults

    def read(self, index: int) -> Sample:
        """Decode a picture and draw its label.

        Raises:
            SpoiltFile: the picture is missing or spoilt or has another size than the JSON says, or an annotation cannot
                be drawn.
        """
        sample, faults = self.examine(index)
        if sample is None:
            raise faults[0]
        return sample

    def examine(self, index: int) -> tuple[Sample | None, list[SpoiltFile]]:
        """Read one sample and return it with no faults, or None with all of them."""
        path, image = self._image(index), None
        label, faults = self._draw(index)
        try:
            image = read_image(path)
        except SpoiltFile as fault:
            faults.append(fault)
        if image is not None and image.shape[:2] != label.shape:
            what = (
                f"the picture is {image.shape[1]} x {image.shape[0]} pixels, but {self.json.name} says "
                f"{label.shape[1]} x {label.shape[0]}"
            )
            faults.append(SpoiltFile("size mismatch", path, what, "Restore the picture from the original data set."))
        if faults or image is None:
            return None, faults
        return Sample(image, label, path.stem), []

    def fingerprint(self) -> str:
        """SHA-256 over the JSON's hash, the classes, and the name and size in bytes of every picture."""
        total = hashlib.sha256(f"{self._json_sha256} {self.labels.classes} {self.min_pixels}\n".encode())
        for index in range(len(self)):
            path = self._image(index)
            try:
                total.update(f"{path.name} {path.stat().st_size}\n".encode())
            except OSError as error:
                mend = "Restore it or mend its permissions."
                raise SpoiltFile("unreadable file", path, f"cannot be read: {error.strerror}", mend) from error
        return total.hexdigest()


def _how_to_get(archive: str, root: Path) -> str:
    return f"Download {archive} from {SITE} and unpack it in {root}."
