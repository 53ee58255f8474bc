"""Data sets that are pairs of files, whatever their layout: pairing, reading, checking and fingerprint.

* A layout only has to list its pairs and say how a mask becomes ids; everything else is here.
* ``lenient`` keeps a split that is empty or has files without partner, so that the checker can report on it; training
  never asks for that.
* The fingerprint is computed when asked for, file by file, since it reads everything.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherseg.data.dataset import Sample
from featherseg.data.headers import IMAGE_SUFFIXES, SpoiltFile
from featherseg.data.images import describe_counts, image_size, read_image
from featherseg.data.labels import IGNORE, LabelSet
from featherseg.errors import FeathersegError


@dataclass(frozen=True)
class Pair:
    """One image file and its mask file."""

    key: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Listing:
    """What a layout found for one split."""

    pairs: tuple[Pair, ...]
    images_without_mask: tuple[Path, ...] = ()
    masks_without_image: tuple[Path, ...] = ()


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in ``folder``, sorted by name; an empty list where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def pair_by_stem(images: Iterable[Path], masks: Iterable[Path], mask_suffix: str = "") -> Listing:
    """Pair images and masks whose stems agree once ``mask_suffix`` is taken off the mask's.

    Raises:
        FeathersegError: two images or two masks share a stem, so that the pairing is not unique.
    """
    by_stem: dict[str, Path] = {}
    for image in images:
        _add_once(by_stem, image.stem, image)
    partners: dict[str, Path] = {}
    foreign = []
    for mask in masks:
        if mask.stem.endswith(mask_suffix):
            _add_once(partners, mask.stem.removesuffix(mask_suffix), mask)
        else:
            foreign.append(mask)
    pairs = tuple(Pair(stem, by_stem[stem], partners[stem]) for stem in sorted(by_stem) if stem in partners)
    return Listing(
        pairs,
        tuple(path for stem, path in by_stem.items() if stem not in partners),
        (*(path for stem, path in partners.items() if stem not in by_stem), *foreign),
    )


def _add_once(stems: dict[str, Path], stem: str, path: Path) -> None:
    if stem in stems:
        raise FeathersegError(
            f"{path}: has the same stem as {stems[stem]}, so images and masks cannot be paired. Rename or remove one."
        )
    stems[stem] = path


def some_names(paths: Iterable[Path], limit: int = 5) -> str:
    """Return "a.png, b.png and 3 more"."""
    names = [path.name for path in paths]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


class PairedDataset:
    """A :class:`~featherseg.data.dataset.SegmentationDataset` over pairs of files.

    Args:
        root: the folder that messages and the fingerprint's names are relative to.
        read_label: mask file to uint8 ``[H, W]`` of ids; ids outside the label set are refused here.
        lenient: keep an empty split and files without partner (``listing`` has them) instead of refusing.

    Raises:
        FeathersegError: nothing in the split, or files without partner, named.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        labels: LabelSet,
        listing: Listing,
        read_label: Callable[[Path], np.ndarray],
        *,
        lenient: bool = False,
    ) -> None:
        self.root, self.split, self.labels, self.listing = root, split, labels, listing
        self._read_label = read_label
        self._fingerprint: str | None = None
        if not lenient:
            self._refuse_gaps()
        self.name = f"{labels.name}/{self._first_size()}"

    def _refuse_gaps(self) -> None:
        for paths, what in (
            (self.listing.images_without_mask, "no mask for"),
            (self.listing.masks_without_image, "no image for"),
        ):
            if paths:
                raise FeathersegError(
                    f"{self.root}: split {self.split!r}: {what} {some_names(paths)}. Images and masks pair by stem: "
                    "add the partners or remove these files."
                )
        if not self.listing.pairs:
            raise FeathersegError(
                f"{self.root}: split {self.split!r} holds no images. Put images and masks there, or choose another "
                "split."
            )

    def _first_size(self) -> str:
        try:
            return "{}x{}".format(*image_size(self.listing.pairs[0].image))
        except (IndexError, SpoiltFile):
            return "unknown"

    def __len__(self) -> int:
        return len(self.listing.pairs)

    def key(self, index: int) -> str:
        return self.listing.pairs[index].key

    def paths(self, index: int) -> tuple[Path, Path]:
        pair = self.listing.pairs[index]
        return pair.image, pair.mask

    def read(self, index: int) -> Sample:
        """Decode one pair.

        Raises:
            SpoiltFile: either file is spoilt, their sizes differ, or an id is neither a class nor ignore.
        """
        sample, faults = self.examine(index)
        if sample is None:
            raise faults[0]
        return sample

    def examine(self, index: int) -> tuple[Sample | None, list[SpoiltFile]]:
        """Decode one pair and return it with no faults, or None with all of them."""
        pair = self.listing.pairs[index]
        image, label, faults = None, None, []
        try:
            image = read_image(pair.image)
        except SpoiltFile as fault:
            faults.append(fault)
        try:
            label = self._read_label(pair.mask)
        except SpoiltFile as fault:
            faults.append(fault)
        if image is not None and label is not None and image.shape[:2] != label.shape:
            what = (
                f"the mask is {label.shape[1]} x {label.shape[0]} pixels, "
                f"but its image {pair.image.name} is {image.shape[1]} x {image.shape[0]}"
            )
            mend = "Make them the same size (masks by nearest neighbour)."
            faults.append(SpoiltFile("size mismatch", pair.mask, what, mend))
        if label is not None and len(outside := label[(label >= len(self.labels)) & (label != IGNORE)]):
            what = (
                f"ids that are no class of {self.labels.name} (0..{len(self.labels) - 1}, 255 = ignore): "
                f"{describe_counts(outside)}"
            )
            mend = "Mend the mask, or map its values with id_map in a YAML."
            faults.append(SpoiltFile("id out of range", pair.mask, what, mend))
        if faults or image is None or label is None:
            return None, faults
        return Sample(image, label, pair.key), []

    def fingerprint(self) -> str:
        """SHA-256 over the relative name, size and content hash of every file, in the split's order."""
        if self._fingerprint is None:
            total = hashlib.sha256()
            for pair in self.listing.pairs:
                for path in (pair.image, pair.mask):
                    total.update(_file_line(path, self.root).encode())
            self._fingerprint = total.hexdigest()
        return self._fingerprint


def _file_line(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{name} {path.stat().st_size} {digest}\n"
    except OSError as error:
        raise SpoiltFile(
            "unreadable file", path, f"cannot be read: {error.strerror}", "Restore it or mend its permissions."
        ) from error
