"""ImageNet-style data: a folder a class, ``train/CLASS/x.jpg``, or the same tree in ``train.zip``.

A zip is read in place and gives what its unpacked folder would. Classes are the sorted folder names of the training
split. Tiny-ImageNet's own validation split, one folder of images and a table of their classes, is read as it lies; a
flat folder without such a table is refused, with the way to sort it.
"""

import hashlib
import os
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from featherseg.data.images import decode_image, read_image
from featherseg.errors import FeathersegError, nearest

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
TABLE = "val_annotations.txt"
"""Tiny-ImageNet's table beside its validation images: file, class and a box, parted by tabs."""

SORT_IMAGENET = (
    "tail -n +2 LOC_val_solution.csv | while IFS=', ' read -r name class rest; "
    'do mkdir -p "val/$class" && mv "val/$name.JPEG" "val/$class/"; done'
)
"""Sorts ImageNet's validation images, which come in one folder, by the table that comes with them."""


def _files(place: Path) -> Iterator[str]:
    """The paths of all files below ``place``, relative to it; the folders in it may be links."""
    for entry in os.scandir(place):
        if not entry.is_dir():
            yield entry.name
            continue
        for folder, _, names in os.walk(entry.path):
            inside = os.path.relpath(folder, place).replace(os.sep, "/")
            yield from (f"{inside}/{name}" for name in names)


@dataclass
class ImageFolder:
    """One split of an ImageNet-style folder.

    Raises:
        FeathersegError: there is no such split, it is empty, or an image cannot be decoded.
    """

    root: Path
    split: str
    train_split: str = "train"
    _archive: tuple[int, zipfile.ZipFile] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        if not self._place.exists():
            found = sorted({p.stem for p in self.root.glob("*") if p.is_dir() or p.suffix == ".zip"})
            raise FeathersegError(
                f"{self.root}: no split {self.split!r}{nearest(self.split, found)}. "
                f"Expected {self.split}/CLASS/IMAGE or {self.split}.zip; there are: {', '.join(found) or 'none'}."
            )
        if not self.entries:
            raise FeathersegError(self._nothing_found())

    def _nothing_found(self) -> str:
        loose = [name for name in self._names if "/" not in name]
        if not loose:
            return f"{self._place}: holds no images in class folders ({self.split}/CLASS/IMAGE)."
        return (
            f"{self._place}: its {len(loose):,} images lie in no class folders, so nothing says what they show. Move "
            f"each into {self.split}/CLASS, named as in {self.train_split}/. ImageNet's own, with its "
            f"LOC_val_solution.csv beside val/, are sorted by: {SORT_IMAGENET}"
        )

    @property
    def _place(self) -> Path:
        folder = self.root / self.split
        return folder if folder.is_dir() else self.root / f"{self.split}.zip"

    @property
    def name(self) -> str:
        """The data set's name in protocols: its folder's."""
        return self.root.resolve().name

    @cached_property
    def entries(self) -> list[tuple[str, str]]:
        """``(class name, path)`` of every image, sorted; paths are relative to the split's folder or archive."""
        table = self._table()
        if table is None:
            return sorted((path.split("/")[0], path) for path in self._names if "/" in path)
        unlisted = [path for path in self._names if posixpath.basename(path) not in table]
        if unlisted:
            raise FeathersegError(
                f"{self._place / TABLE}: does not list {len(unlisted):,} of the images beside it ({unlisted[0]}). Copy "
                "it again, or take them out."
            )
        return sorted((table[posixpath.basename(path)], path) for path in self._names)

    @cached_property
    def _names(self) -> list[str]:
        """The paths of all images; macOS adds a hidden shadow of every file to an archive."""
        if self._place.is_dir():
            found = list(_files(self._place))
        else:
            found = [name.removeprefix(f"{self.split}/") for name in self._archived() if "__MACOSX/" not in name]
        return [
            path
            for path in found
            if posixpath.splitext(path)[1].lower() in SUFFIXES and not posixpath.basename(path).startswith(".")
        ]

    def _archived(self) -> list[str]:
        try:
            with zipfile.ZipFile(self._place) as archive:
                return archive.namelist()
        except (zipfile.BadZipFile, OSError) as error:
            raise FeathersegError(f"{self._place}: not a readable zip archive ({error}). Copy it again.") from None

    def _table(self) -> dict[str, str] | None:
        """Image name to class by Tiny-ImageNet's table; None where there is none."""
        place = self._place
        if place.is_dir():
            if not (place / TABLE).is_file():
                return None
            content = (place / TABLE).read_bytes()
        else:
            member = next((n for n in self._archived() if n in (TABLE, f"{self.split}/{TABLE}")), None)
            if member is None:
                return None
            content = self._read_member(self._open_archive(), member)
        rows = [line.split("\t") for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
        if not all(len(row) >= 2 and row[0] and row[1] for row in rows):
            raise FeathersegError(f"{place / TABLE}: not a table of image and class, parted by tabs. Copy it again.")
        return {row[0]: row[1].strip() for row in rows}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in id order, by the training split."""
        own = self if self.split == self.train_split else ImageFolder(self.root, self.train_split, self.train_split)
        return tuple(sorted({name for name, _ in own.entries}))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self.entries)

    def key(self, index: int) -> str:
        """The path of an image below the split."""
        return self.entries[index][1]

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """uint8 RGB ``[H, W, 3]`` and the class id."""
        name = self.entries[index][0]
        if name not in self._ids:
            raise FeathersegError(f"{self._place}: class {name!r} does not occur in {self.train_split}.")
        return self.read_pixels(index), self._ids[name]

    def read_pixels(self, index: int) -> np.ndarray:
        """uint8 RGB ``[H, W, 3]``, of whatever class."""
        path = self.entries[index][1]
        if self._place.is_dir():
            return read_image(self._place / path)
        archive = self._open_archive()
        data = self._read_member(archive, self._member(archive, path))
        return decode_image(data, self._place / path)

    def _read_member(self, archive: zipfile.ZipFile, member: str) -> bytes:
        try:
            return archive.read(member)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            where = self._place / member.removeprefix(f"{self.split}/")
            raise FeathersegError(
                f"{where}: cannot be read out of the archive ({error}). Copy the zip again."
            ) from None

    def _open_archive(self) -> zipfile.ZipFile:
        # Each worker process opens the file anew: a handle that was inherited shares its position with the others.
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = (os.getpid(), zipfile.ZipFile(self._place))
        return self._archive[1]

    def _member(self, archive: zipfile.ZipFile, path: str) -> str:
        return f"{self.split}/{path}" if f"{self.split}/{path}" in archive.NameToInfo else path

    def fingerprint(self) -> str:
        """sha256 over the entries' names and sizes; of a zip, over names and checksums."""
        digest = hashlib.sha256()
        if self._place.is_dir():
            for _, path in self.entries:
                digest.update(f"{path}\0{(self._place / path).stat().st_size}\n".encode())
        else:
            with zipfile.ZipFile(self._place) as archive:
                for _, path in self.entries:
                    digest.update(f"{path}\0{archive.getinfo(self._member(archive, path)).CRC}\n".encode())
        return digest.hexdigest()
