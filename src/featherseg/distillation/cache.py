"""A teacher's outputs on disk, so that an image that comes again in the same augmentation needs no teacher.

Design choices:
- an entry is found by the digest of the augmented image itself, which sample and augmentation make: whatever changes
  either of them (seed, crop, data) asks for another entry, and runs that see the same images share theirs;
- augmentations never repeat of themselves. :class:`RepeatedAugmentations` lets them, after so many epochs, in another
  order each time; so the entries are bounded, by epochs times images, and their size is known beforehand;
- what is used is always what the entry would hold, half precision, whether it was read or just computed: losses do not
  depend on which entries are there. A batch of which one is missing is computed as a whole, so that an entry is
  computed beside the same others when a killed run goes on;
- a folder belongs to one teacher, in one precision, and says so in ``teacher.json``; another is refused. An entry that
  is damaged, or of another image, is made anew;
- entries are files of their own, written as all files here; one is read at a time, and memory does not grow.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.randomness import generator

DESCRIPTION = "teacher.json"
SUFFIX = ".safetensors"
METADATA_KEY = "entry"  # one, since the order of several is not fixed, and bytes should be
LARGEST = float(torch.finfo(torch.float16).max)
_BLOCK = 4096  # what a small file takes up on most file systems is a multiple of it
_MEND = "Choose another distillation.cache.folder, or leave distillation.cache out."


@dataclass(frozen=True)
class RepeatedAugmentations(Dataset):
    """Samples by (epoch, position) whose augmentations repeat after ``epochs``; the first ones are as without it.

    Every later epoch shows one of the first ones again, in an order of its own.
    """

    samples: Dataset
    length: int
    epochs: int
    seed: int

    def __getitem__(self, place: tuple[int, int]) -> Any:
        epoch, position = place
        if epoch < self.epochs:
            return self.samples[place]
        return self.samples[(epoch % self.epochs, int(_order(self.seed, epoch, self.length)[position]))]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return generator(seed, "repeat", epoch).permutation(length)


def stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an entry holds of a batch's tensors: float16, what is beyond its range at its ends.

    In an entry's layout too, since the order in which numbers are added depends on it.
    """
    return {name: tensor.float().clamp(-LARGEST, LARGEST).half().contiguous() for name, tensor in tensors.items()}


class TeacherCache:
    """Entries of one teacher in one folder.

    Args:
        folder: made when the first entry is written.
        teacher: JSON-ready description of whatever an output depends on besides the image, and for people, its "name".

    Raises:
        FeathersegError: the folder holds the outputs of another teacher, or other files.
    """

    def __init__(self, folder: str | Path, teacher: Mapping[str, Any]) -> None:
        self.folder, self.teacher = Path(folder), json.loads(json.dumps(teacher))
        self._described = False
        about = self.folder / DESCRIPTION
        if about.is_file():
            self._check_description(about)
            self._described = True
        elif self.folder.exists() and not (self.folder.is_dir() and _is_empty(self.folder)):
            raise FeathersegError(
                f"{self.folder}: holds other files than a teacher's outputs: there is no {DESCRIPTION}. {_MEND}"
            )

    def _check_description(self, about: Path) -> None:
        try:
            found = dict(json.loads(about.read_text()))
        except (OSError, ValueError, TypeError):
            raise FeathersegError(f"{about}: is not readable. Remove {self.folder} to make it anew. {_MEND}") from None
        differ = {key for key in {*self.teacher, *found} if found.get(key) != self.teacher.get(key)}
        if differ - {"name"}:
            told = ", ".join(f"{key} {found.get(key)!r} instead of {self.teacher.get(key)!r}" for key in sorted(differ))
            raise FeathersegError(f"{self.folder}: holds the outputs of another teacher: {told}. {_MEND}")

    def entry(self, image: Tensor) -> Path:
        """The file for one image, uint8 ``[H, W, 3]`` on the CPU."""
        pixels = image.contiguous().numpy()
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16)
        digest.update(repr(pixels.shape).encode())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}{SUFFIX}"

    def read(self, images: Tensor) -> dict[str, Tensor] | None:
        """The entries of uint8 images ``[B, H, W, 3]``, float16, stacked by name; None if not all are there whole."""
        found = []
        for image in images.cpu():
            entry = self._read_one(self.entry(image))
            if entry is None or (found and _shapes(entry) != _shapes(found[0])):
                return None
            found.append(entry)
        with torch.autocast("cpu", enabled=False):  # which in bfloat16 joins no float16
            return {name: torch.stack([entry[name] for entry in found]) for name in found[0]} if found else None

    def _read_one(self, path: Path) -> dict[str, Tensor] | None:
        try:
            with safe_open(path, framework="pt") as file:
                about = (file.metadata() or {}).get(METADATA_KEY)
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        except (OSError, SafetensorError, ValueError):
            return None
        return tensors if about == _entry_metadata(path, tensors) else None

    def write(self, images: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Keep what :func:`stored` gave of a batch; entries that are there whole are left alone.

        Raises:
            FeathersegError: no space is left, or the folder cannot be written.
        """
        try:
            if not self._described:
                atomic_write(self.folder / DESCRIPTION, json.dumps(self.teacher, indent=1, sort_keys=True))
                self._described = True
            for index, image in enumerate(images.cpu()):
                path = self.entry(image)
                if self._read_one(path) is None:
                    own = {name: tensors[name][index].cpu().contiguous() for name in sorted(tensors)}
                    atomic_write(path, save(own, {METADATA_KEY: _entry_metadata(path, own)}))
        except FeathersegError as error:
            raise FeathersegError(
                f"{error} The teacher's outputs are kept there (distillation.cache). Nothing is lost: go on with "
                "--resume once there is space."
            ) from None

    def check_space(self, count: int, tensors: Mapping[str, Tensor]) -> str:
        """Tell how large the cache may become, for a person.

        Args:
            count: entries that it may hold.
            tensors: of one image, float16 ``[1, ...]``.

        Raises:
            FeathersegError: there is less space on the disk.
        """
        image = {name: tensor[0].cpu().contiguous() for name, tensor in sorted(tensors.items())}
        content = save(
            image, {METADATA_KEY: _entry_metadata(self.entry(torch.zeros(1, 1, 3, dtype=torch.uint8)), image)}
        )
        each = -(-len(content) // _BLOCK) * _BLOCK
        present = sum(1 for _ in self.folder.glob(f"*/*{SUFFIX}")) if self.folder.is_dir() else 0
        needed = max(0, count - present) * each
        place = next(one for one in (self.folder.absolute(), *self.folder.absolute().parents) if one.exists())
        free = shutil.disk_usage(place).free
        told = (
            f"the teacher's outputs, kept in {self.folder}: at most {count:,} entries of {_size(each)}, "
            f"{_size(count * each)}"
        )
        if needed > free:
            raise FeathersegError(
                f"{told}; {present:,} are there, and {_size(free)} free. Lower distillation.cache.epochs, or choose "
                "another distillation.cache.folder, or leave distillation.cache out."
            )
        return f"{told}; {present:,} are there, and {_size(free)} free"


def _is_empty(folder: Path) -> bool:
    """But for temporary files, which a process that was killed may leave."""
    return all(path.name.startswith(".") for path in folder.iterdir())


def _shapes(entry: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in entry.items()}


def _entry_metadata(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """What an entry says of itself: the image that it belongs to, and a digest of what it holds."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return f"{path.stem} {digest.hexdigest()}"


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
