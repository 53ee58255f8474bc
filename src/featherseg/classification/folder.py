"""ImageNet-style data: a folder a class, ``train/CLASS/x.jpg``, or the same tree in ``train.zip``.

A zip is read in place. Classes are the sorted folder names of the training split.
"""

import hashlib
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from featherseg.data.images import read_image
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
    _archive: zipfile.ZipFile | None = field(default=None, repr=False)

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
        inside = [(n.split("/"), n) for n in names]
        return sorted((parts[1] if parts[0] == self.split else parts[0], n) for parts, n in inside if len(parts) > 1)

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
        if self._archive is None:
            self._archive = zipfile.ZipFile(self._place)
        decoded = cv2.imdecode(np.frombuffer(self._archive.read(path), np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise FeathersegError(f"{self._place}: {path} is not a readable image. Replace or remove it.")
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), self._ids[name]

    def fingerprint(self) -> str:
        """sha256 over the entries' names and sizes."""
        digest = hashlib.sha256()
        if self._place.is_dir():
            for _, path in self.entries:
                digest.update(f"{path}\0{(self._place / path).stat().st_size}\n".encode())
        else:
            with zipfile.ZipFile(self._place) as archive:
                for _, path in self.entries:
                    digest.update(f"{path}\0{archive.getinfo(path).CRC}\n".encode())
        return digest.hexdigest()
