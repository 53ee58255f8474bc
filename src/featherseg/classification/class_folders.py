"""Data with a folder a class and no splits of its own: Caltech-101, Caltech-256, and folders that look like them.

Choices worth knowing:

- Recognised are ``101_ObjectCategories/CLASS`` and ``256_ObjectCategories/NNN.CLASS``, in the folder that is given or
  as that folder, ``images/CLASS``, and plain ``CLASS`` folders. Only images that lie directly in a class's folder are
  read: Caltech-256 has strays deeper down that its 30,607 do not count.
- Caltech-256's numbers keep its classes in their order and are no part of their names, but where they alone tell two
  classes apart.
- The background (``BACKGROUND_Google``, ``clutter``) is a class as in the paper unless it is dropped. Classes that are
  dropped are gone before the split is drawn, so that the test part has its full number of images.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from featherseg.classification.folder import SUFFIXES, ImageFolder
from featherseg.classification.split import PARTS, Split, SplitFile, draw_split, read_split
from featherseg.data.images import read_image
from featherseg.errors import FeathersegError, nearest

CALTECH = {"101_ObjectCategories": "caltech101", "256_ObjectCategories": "caltech256"}
"""The folders of the official archives, and what protocols call them."""

BACKGROUND = ("BACKGROUND_Google", "clutter")
TEST_COUNT = 2000
"""Test images of a split that is drawn: what Hoanh 2020 takes of both Caltech sets."""


@dataclass(frozen=True)
class SplitSettings:
    """How a folder without splits is cut.

    Attributes:
        test_count: images for testing; None for 2,000.
        val_count: images for choosing, out of the others; None for a tenth of them.
        seed: of the draw.
        drop: classes that are left out, by name.
        background: keep the background class.
        file: a split that was saved; it decides everything, the classes too.
    """

    test_count: int | None = None
    val_count: int | None = None
    seed: int = 0
    drop: tuple[str, ...] = ()
    background: bool = True
    file: Path | None = None


@dataclass(frozen=True)
class ClassListing:
    """The class folders of a data set: its name, the folder they lie in, and class name to folder name in id order."""

    name: str
    place: Path
    folders: dict[str, str]

    def images(self, class_name: str) -> list[str]:
        """``FOLDER/IMAGE`` of a class's images, sorted."""
        folder = self.folders[class_name]
        return [f"{folder}/{name}" for name in sorted(os.listdir(self.place / folder)) if is_image(name)]


def is_image(name: str) -> bool:
    """Whether a file's name is an image's; macOS's hidden shadows are none."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def find_class_folders(root: str | Path) -> ClassListing | None:
    """The class folders in ``root``; None where it holds none."""
    root = Path(root)
    if not root.is_dir():
        return None
    resolved = root.resolve()
    name = CALTECH.get(resolved.name, resolved.name)
    for inside in (*CALTECH, "images", ""):
        folders = _class_folders(root / inside)
        if folders:
            return ClassListing(CALTECH.get(inside, name), root / inside, folders)
    return None


def _class_folders(place: Path) -> dict[str, str]:
    """Class name to folder name; empty where nothing in ``place`` is a folder of images."""
    if not place.is_dir():
        return {}
    found = sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith("."))
    if not any(is_image(name) for folder in found for name in os.listdir(place / folder)):
        return {}
    names = [folder[4:] for folder in found if re.match(r"\d{3}\.", folder)]
    numbered = len(set(names)) == len(found)
    return dict(zip(names if numbered else found, found, strict=True))


@dataclass
class ClassFolders:
    """One part ("train", "val", "test" or "trainval") of a folder without splits.

    Raises:
        FeathersegError: there are no class folders, a class that is dropped does not exist, a class has fewer than two
            images, no such part, or an image cannot be decoded.
    """

    root: Path
    split: str
    settings: SplitSettings = SplitSettings()
    _listing: ClassListing = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        listing = find_class_folders(self.root)
        if listing is None:
            raise FeathersegError(
                f"{self.root}: holds no folders of images. Expected CLASS/IMAGE, images/CLASS/IMAGE, or Caltech's "
                f"{' or '.join(CALTECH)}."
            )
        if self.split not in PARTS:
            raise FeathersegError(
                f"{self.root}: no split {self.split!r}{nearest(self.split, PARTS)}. There are: {', '.join(PARTS)}."
            )
        self._listing = listing
        if not self.entries:
            raise FeathersegError(
                f"{self.root}: no images for {self.split!r}. Set data.{self.split}_count to more than 0."
            )

    @property
    def name(self) -> str:
        """The data set's name in protocols: Caltech's, or its folder's."""
        return self._listing.name

    @cached_property
    def _file(self) -> SplitFile | None:
        return None if self.settings.file is None else read_split(self.settings.file)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that are kept, in the order of their folders."""
        known = list(self._listing.folders)
        if self._file:
            _must_be_known(self._file.classes, known, f"{self._file.path}: classes")
            return tuple(name for name in known if name in self._file.classes)
        drop = set(self.settings.drop)
        _must_be_known(drop, known, f"{self.root}: data.drop_classes")
        if not self.settings.background:
            drop |= set(BACKGROUND)
        kept = tuple(name for name in known if name not in drop)
        if not kept:
            raise FeathersegError(f"{self.root}: no class is left. Drop fewer by data.drop_classes.")
        return kept

    @cached_property
    def _paths(self) -> dict[str, tuple[str, str]]:
        """Every image that is kept: its name to (class, path)."""
        found: dict[str, tuple[str, str]] = {}
        for kind in self.classes:
            paths = self._listing.images(kind)
            if len(paths) < 2:
                held = "no image" if not paths else "one image"
                raise FeathersegError(
                    f"{self._listing.place / self._listing.folders[kind]}: the class has {held}, and needs one to "
                    f"learn from and one to be judged by. Add images, or leave it out: data.drop_classes=[{kind}]."
                )
            stems = Counter(_stem(path) for path in paths)
            for path in paths:
                found[_stem(path) if stems[_stem(path)] == 1 else path] = (kind, path)
        return found

    @cached_property
    def division(self) -> Split:
        """All parts of the split that this is one of.

        Raises:
            FeathersegError: the counts leave nothing to train on, or a class has no training image.
        """
        names = list(self._paths)
        if self._file:
            drawn = self._file.split(names)
        else:
            settings = self.settings
            test = TEST_COUNT if settings.test_count is None else settings.test_count
            val = round((len(names) - test) / 10) if settings.val_count is None else settings.val_count
            drawn = draw_split(names, test=test, val=max(0, val), seed=settings.seed, where=str(self.root))
        shown = {self._paths[name][0] for name in drawn.train}
        lacking = [name for name in self.classes if name not in shown]
        if lacking:
            raise FeathersegError(
                f"{self.root}: no image of {', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''} fell to "
                "train. Add images of it, draw again with another data.seed, or leave it out by data.drop_classes."
            )
        return drawn

    @cached_property
    def entries(self) -> list[tuple[str, str]]:
        """``(class name, path)`` of every image, in the order of their names; paths are relative to the class folders'
        place."""
        return [self._paths[name] for name in self.division.part(self.split)]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self.entries)

    def key(self, index: int) -> str:
        """The name of an image: its path without suffix, unless two differ in nothing else."""
        return self.division.part(self.split)[index]

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """uint8 RGB ``[H, W, 3]`` and the class id."""
        name, path = self.entries[index]
        return read_image(self._listing.place / path), self._ids[name]

    def fingerprint(self) -> str:
        """sha256 over the entries' paths and sizes."""
        digest = hashlib.sha256()
        for _, path in self.entries:
            digest.update(f"{path}\0{(self._listing.place / path).stat().st_size}\n".encode())
        return digest.hexdigest()


ClassifiedImages = ImageFolder | ClassFolders
"""One split of a data set that shows one class an image."""


def _stem(path: str) -> str:
    return path.rsplit(".", 1)[0]


def _must_be_known(names: Iterable[str], known: list[str], where: str) -> None:
    for name in sorted(names):
        if name not in known:
            raise FeathersegError(f"{where} names {name!r}, and no class is called so{nearest(name, known)}.")
