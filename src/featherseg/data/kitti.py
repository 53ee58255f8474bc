"""KITTI's data for object detection (Geiger et al. 2012) as it is distributed: ``training`` and ``testing``.

* ``ROOT/training/image_2`` beside ``ROOT/training/label_2``; images are PNG or, in copies, JPEG. What lies in
  ``ROOT/testing/image_2`` is the split "test", whose labels are not public.
* KITTI itself has no validation split. The usual one (Chen et al. 2015: 3,712 and 3,769 images) lies in copies as
  ``ImageSets/train.txt`` and ``val.txt``, one id a line, and is taken from there; without them there is "trainval".
* All labels are read when a split is opened, in a second or two, so that no training stops at a wrong line half-way.
  Images are decoded when they are read, and boxes held against their size then.
* Which types are learnt is a :class:`~featherseg.data.kitti_labels.Target`; DontCare regions are always ignored.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherseg.data.boxes import BoxSample, nothing_to_find
from featherseg.data.headers import SpoiltFile
from featherseg.data.images import read_image
from featherseg.data.kitti_labels import check_inside, read_labels, read_lines, split_by_target, target_of
from featherseg.data.pairs import image_files
from featherseg.errors import FeathersegError, nearest
from featherseg.files import file_sha256
from featherseg.metrics.kitti import CAR, KittiTruth

IMAGES, LABELS, SETS = "image_2", "label_2", "ImageSets"
TRAINVAL, TEST = "trainval", "test"


@dataclass(frozen=True)
class Frame:
    """One image and where its label belongs, whether it is there or not."""

    key: str
    image: Path
    label: Path


def kitti_splits(root: str | Path) -> list[str]:
    """The splits of a KITTI folder; an empty list if it is not one.

    "train" and "val" where ImageSets has them, else "trainval", every image with labels; "test" where it was unpacked.
    """
    root = Path(root)
    if not ((root / "training" / IMAGES).is_dir() and (root / "training" / LABELS).is_dir()):
        return []
    halves = [name for name in ("train", "val") if (root / SETS / f"{name}.txt").is_file()]
    return [*(halves or [TRAINVAL]), *([TEST] if (root / "testing" / IMAGES).is_dir() else [])]


def _no_split(root: Path, split: str, known: list[str]) -> FeathersegError:
    if not known:
        return FeathersegError(
            f"{root}: not laid out as KITTI's object data. It needs training/{IMAGES}/ and training/{LABELS}/."
        )
    there = f"There are: {', '.join(known)}{nearest(split, known)}."
    if split in ("train", "val"):
        there += f" Training and validation are told apart by {SETS}/train.txt and {SETS}/val.txt, one id a line."
    return FeathersegError(f"{root}: no split {split!r}. {there}")


def _listed(path: Path) -> list[str]:
    """The ids of an ImageSets file.

    Raises:
        SpoiltFile: unreadable, or an id stands there twice.
    """
    keys: dict[str, int] = {}
    for number, fields in read_lines(path):
        if fields[0] in keys:
            what = f"line {number}: {fields[0]} stands on line {keys[fields[0]]} already"
            raise SpoiltFile("listed twice", path, what, "Take one of the lines out.")
        keys[fields[0]] = number
    return list(keys)


class Kitti:
    """One split: a :class:`~featherseg.data.boxes.DetectionDataset`.

    Args:
        root: the folder that holds ``training`` and, it may be, ``testing`` and ``ImageSets``.
        split: as :func:`kitti_splits` lists them, or "trainval".
        target: "Car" (Van and DontCare ignored) or "vehicle" (Car, Van and Truck as one class).
        lenient: keep frames without image or label, labels that are at fault and a split without vehicles, so that the
            checker can report on them.

    Attributes:
        images_unlabelled: images without a label file; empty unless ``lenient``.
        keys_without_image: ids that are listed and have no image; empty unless ``lenient``.
    """

    def __init__(self, root: str | Path, split: str, *, target: str = CAR.name, lenient: bool = False) -> None:
        self.root, self.split, self.target = Path(root), split, target_of(target)
        self.classes = (self.target.name,)
        self.name = f"kitti-{self.target.name.lower()}/mixed"
        known = kitti_splits(root)
        if split not in known and not (known and split == TRAINVAL):
            raise _no_split(self.root, split, known)
        self.frames = self._frames()
        self._labels: list[KittiTruth | None] = [None] * len(self.frames)
        self._fingerprint: str | None = None
        if not lenient:
            self._refuse_gaps()

    @property
    def labels_withheld(self) -> bool:
        """Whether there are no labels by design, since the benchmark's server keeps them."""
        return self.split == TEST

    def _frames(self) -> list[Frame]:
        folder = self.root / ("testing" if self.labels_withheld else "training")
        images = {path.stem: path for path in image_files(folder / IMAGES)}
        listing = self.root / SETS / f"{self.split}.txt"
        keys = _listed(listing) if listing.is_file() else sorted(images)
        self.keys_without_image = [key for key in keys if key not in images]
        frames = [Frame(key, images[key], folder / LABELS / f"{key}.txt") for key in keys if key in images]
        labelled = frames if self.labels_withheld else [frame for frame in frames if frame.label.is_file()]
        kept = {frame.key for frame in labelled}
        self.images_unlabelled = [frame.image for frame in frames if frame.key not in kept]
        return labelled

    def _refuse_gaps(self) -> None:
        where = f"{self.root}: split {self.split!r}"
        if self.keys_without_image:
            raise FeathersegError(
                f"{where}: {len(self.keys_without_image):,} of the listed images are not there, "
                f"{self.keys_without_image[0]} among them. Unpack the images again, or mend {SETS}/{self.split}.txt."
            )
        if self.images_unlabelled:
            raise FeathersegError(
                f"{where}: {len(self.images_unlabelled):,} images have no label file, {self.images_unlabelled[0].name} "
                f"among them. Unpack {LABELS} again, or leave the images out. (An image without objects has an empty "
                "file.)"
            )
        if not self.frames:
            raise FeathersegError(f"{where} holds no images. Unpack them there, or choose another split.")
        counts = [0 if self.labels_withheld else self.count(index) for index in range(len(self))]
        if not self.labels_withheld and not any(counts):
            raise nothing_to_find(where, self.target.members, len(self.frames))

    def __len__(self) -> int:
        return len(self.frames)

    def key(self, index: int) -> str:
        return self.frames[index].key

    def paths(self, index: int) -> tuple[Path, Path]:
        """The image and where its label belongs; in "test" there is none."""
        return self.frames[index].image, self.frames[index].label

    def truth(self, index: int) -> KittiTruth:
        """The whole label of one image, as its judgement takes it.

        Raises:
            SpoiltFile: as :func:`~featherseg.data.kitti_labels.read_labels`.
            FeathersegError: the split is "test".
        """
        if self.labels_withheld:
            raise FeathersegError(f"{self.root}: the labels of 'test' are not public. Judge on 'val'.")
        found = self._labels[index]
        if found is None:
            found = self._labels[index] = read_labels(self.frames[index].label)
        return found

    def count(self, index: int) -> int:
        """How many boxes of the target an image has."""
        return sum(name in self.target.members for name in self.truth(index).names)

    def read(self, index: int) -> BoxSample:
        """Decode one image and its boxes; in "test" there are none.

        Raises:
            SpoiltFile: the image or its label is spoilt, or a box leaves the image by more than a pixel.
        """
        sample, faults = self.examine(index)
        if sample is None:
            raise faults[0]
        return sample

    def examine(self, index: int) -> tuple[BoxSample | None, list[SpoiltFile]]:
        """Decode one image and its boxes and return them with no faults, or None with all of them."""
        frame, image, truth, faults = self.frames[index], None, None, []
        try:
            image = read_image(frame.image)
        except SpoiltFile as fault:
            faults.append(fault)
        try:
            truth = _no_truth() if self.labels_withheld else self.truth(index)
            if image is not None:
                check_inside(frame.label, truth, (image.shape[1], image.shape[0]))
        except SpoiltFile as fault:
            faults.append(fault)
        if faults or image is None or truth is None:
            return None, faults
        boxes, ignored = split_by_target(truth, self.target)
        return BoxSample(image, boxes, np.zeros(len(boxes), np.int64), ignored, frame.key), []

    def fingerprint(self) -> str:
        """SHA-256 over the target and the key and content hash of every file, in the split's order.

        Raises:
            SpoiltFile: a file cannot be read.
        """
        if self._fingerprint is None:
            total = hashlib.sha256(f"{self.target}\n".encode())
            for frame in self.frames:
                for path in (frame.image,) if self.labels_withheld else (frame.image, frame.label):
                    total.update(f"{frame.key} {_content_hash(path)}\n".encode())
            self._fingerprint = total.hexdigest()
        return self._fingerprint


def _no_truth() -> KittiTruth:
    return KittiTruth((), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


def _content_hash(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        mend = "Restore it or mend its permissions."
        raise SpoiltFile("unreadable file", path, f"cannot be read: {error.strerror}", mend) from error
