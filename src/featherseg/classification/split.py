"""Which images of a folder without splits are for training, choosing and testing: drawn by a seed, or read from a file.

Choices worth knowing:

- The draw is a pure function of the sorted names and the seed: a permutation whose first ``test`` names are for testing
  and whose next ``val`` ones for choosing. So the test images do not depend on how many are kept for choosing.
- Names are those of classes and images without the suffix, so that a copy of the data in another format is cut alike.
- A split's digest is kept with the weights: weights are judged on the split that they were not trained on, or not at
  all.
- The file is JSON with the test and the val names, the classes, and the number and digest of the training names, which
  are all others. A file by hand needs ``classes`` and ``test`` alone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherseg.errors import FeathersegError, nearest
from featherseg.files import atomic_write
from featherseg.randomness import generator

PARTS = ("train", "val", "test", "trainval")
"""The parts of a split; ``trainval`` is train and val together, all that is not for testing."""

_KIND = "split of class folders"


@dataclass(frozen=True)
class Split:
    """Names by part. ``origin`` says in protocols where they come from: ``seed0``, or ``file-`` and a digest."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    origin: str

    def part(self, name: str) -> tuple[str, ...]:
        """The names of ``train``, ``val``, ``test`` or ``trainval``, sorted."""
        return tuple(sorted(self.train + self.val)) if name == "trainval" else getattr(self, name)

    def digest(self) -> str:
        """sha256 over all names by part."""
        content = hashlib.sha256()
        for part in ("train", "val", "test"):
            content.update(f"{part}\n{_digest(getattr(self, part))}\n".encode())
        return content.hexdigest()


def draw_split(names: Sequence[str], *, test: int, val: int, seed: int, where: str) -> Split:
    """Draw ``test`` and ``val`` of ``names``; the rest is for training.

    Args:
        names: of all images, each once.
        test: how many are for testing.
        val: how many of the others are for choosing.
        seed: of the permutation.
        where: names the data in the message.

    Raises:
        FeathersegError: nothing would be left to train on.
    """
    if test + val >= len(names):
        raise FeathersegError(
            f"{where}: {len(names):,} images, and {test:,} for testing and {val:,} for choosing leave none to train "
            "on. Set data.test_count and data.val_count to fewer."
        )
    ordered = sorted(names)
    drawn = [ordered[index] for index in generator(seed, "split").permutation(len(ordered))]
    parts = (drawn[test + val :], drawn[test : test + val], drawn[:test])
    train, chosen, tested = (tuple(sorted(part)) for part in parts)
    return Split(train, chosen, tested, f"seed{seed}")


def save_split(path: str | Path, split: Split, classes: Sequence[str], about: dict[str, Any]) -> Path:
    """Write a split so that :func:`read_split` reads it back.

    Args:
        path: the file.
        split: what is written.
        classes: that were kept, by name.
        about: further JSON-ready facts, for a person.
    """
    content = {
        "kind": _KIND,
        "format": 1,
        **about,
        "classes": list(classes),
        "train": {"images": len(split.train), "sha256": _digest(split.train)},
        "val": list(split.val),
        "test": list(split.test),
    }
    return atomic_write(path, json.dumps(content, indent=0, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class SplitFile:
    """What a split file says; see :func:`save_split`."""

    path: Path
    classes: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    train_images: int | None
    train_sha256: str | None

    def split(self, names: Sequence[str]) -> Split:
        """The split of a folder that holds ``names``.

        Raises:
            FeathersegError: an image of the file is not there, is listed twice, or the others are not those that were
                trained on when it was written.
        """
        known, listed = set(names), [*self.val, *self.test]
        missing = [name for name in listed if name not in known]
        if missing:
            raise FeathersegError(
                f"{self.path}: lists {len(missing):,} images that are not in the folder ({missing[0]}"
                f"{nearest(missing[0], known)}). Give the data it was written for."
            )
        if len(set(listed)) < len(listed):
            twice = next(name for name in listed if listed.count(name) > 1)
            raise FeathersegError(f"{self.path}: lists {twice} twice. Take it out of one of val and test.")
        train = tuple(sorted(known - set(listed)))
        if not train:
            raise FeathersegError(f"{self.path}: leaves no image to train on. List fewer in val and test.")
        if self.train_sha256 is not None and _digest(train) != self.train_sha256:
            raise FeathersegError(
                f"{self.path}: was written with {self.train_images} training images, and the folder holds "
                f"{len(train):,} that it does not list, others than those. Restore the data, or draw a new split."
            )
        found = Split(train, tuple(sorted(self.val)), tuple(sorted(self.test)), "")
        return Split(found.train, found.val, found.test, f"file-{found.digest()[:8]}")


def read_split(path: str | Path) -> SplitFile:
    """Read a split file.

    Raises:
        FeathersegError: it is missing, no JSON, or no split.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeathersegError(f"{path}: the split cannot be read: {error.strerror}. Check the path.") from None
    except ValueError as error:
        raise FeathersegError(f"{path}: not a split file: it is no JSON ({error}).") from None
    content = content if isinstance(content, dict) else {}
    classes, val, test, train = (content.get(key, []) for key in ("classes", "val", "test", "train"))
    sound = all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in (classes, val, test)
    )
    if not sound or not classes or not test or not isinstance(train, dict | list):
        raise FeathersegError(
            f'{path}: not a split file. It is a JSON object with "classes" and "test", and "val" if there is one: '
            "lists of names, an image's as CLASS_FOLDER/NAME without the suffix. A training writes one as split.json."
        )
    told = train if isinstance(train, dict) else {}
    return SplitFile(path, tuple(classes), tuple(val), tuple(test), told.get("images"), told.get("sha256"))


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
