"""ImageNet-style data: a folder a class, ``train/CLASS/x.jpg``, or the same tree in ``train.zip``.

A zip is read in place and gives what its unpacked folder would. Classes are the sorted folder names of the training
split.
"""

import hashlib
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from featherseg.data.images import decode_image, read_image
from featherseg.errors import FeathersegError, nearest

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


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
            raise FeathersegError(f"{self._place}: holds no images in class folders ({self.split}/CLASS/IMAGE).")

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
        place = self._place
        if place.is_dir():
            paths = [p.relative_to(place).as_posix() for p in place.glob("*/**/*") if p.suffix.lower() in SUFFIXES]
            return sorted((path.split("/")[0], path) for path in paths)
        try:
            with zipfile.ZipFile(place) as archive:
                names = [n for n in archive.namelist() if Path(n).suffix.lower() in SUFFIXES]
        except (zipfile.BadZipFile, OSError) as error:
            raise FeathersegError(f"{place}: not a readable zip archive ({error}). Copy it again.") from None
        # The archive may hold the split's folder or what lies in it; macOS adds a shadow of every file.
        inside = [n.removeprefix(f"{self.split}/") for n in names if not n.startswith("__MACOSX/")]
        return sorted((path.split("/")[0], path) for path in inside if "/" in path)

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
        name, path = self.entries[index]
        if name not in self._ids:
            raise FeathersegError(f"{self._place}: class {name!r} does not occur in {self.train_split}.")
        if self._place.is_dir():
            return read_image(self._place / path), self._ids[name]
        where = self._place / path
        archive = self._open_archive()
        try:
            data = archive.read(self._member(archive, path))
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            raise FeathersegError(
                f"{where}: cannot be read out of the archive ({error}). Copy the zip again."
            ) from None
        return decode_image(data, where), self._ids[name]

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
