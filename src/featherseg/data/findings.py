"""What a check of any data set collects: problems, and samples that were seen before.

* Memory is constant but for a digest of 16 bytes an image: of each kind of problem only the first few are kept.
* Duplicates are found by the decoded pixels, whatever files they lie in.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from featherseg.data.headers import SpoiltFile

Level = Literal["error", "warning"]
_DIGEST_BYTES = 16


class Listed(Protocol):
    """What is asked of a data set here: samples with keys and, it may be, files."""

    split: str

    def key(self, index: int) -> str: ...

    def paths(self, index: int) -> tuple[Path, Path] | None: ...


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def place_of(dataset: Listed, index: int) -> str:
    """The image file of a sample, or its key where there are no files."""
    paths = dataset.paths(index)
    return str(paths[0]) if paths else dataset.key(index)


@dataclass(frozen=True)
class Problem:
    """One finding. ``kind`` groups findings; ``where`` is a file, a sample or a split."""

    level: Level
    kind: str
    where: str
    what: str
    mend: str


class Findings:
    """Keeps the first ``keep`` problems of each kind and level and counts the others."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._kept: list[Problem] = []
        self._counts: Counter[tuple[Level, str]] = Counter()

    def add(self, level: Level, kind: str, where: object, what: str, mend: str) -> None:
        """Note one problem."""
        self._counts[level, kind] += 1
        if self._counts[level, kind] <= self._keep:
            self._kept.append(Problem(level, kind, str(where), what, mend))

    def spoilt(self, fault: SpoiltFile) -> None:
        """Note a spoilt file, as an error."""
        self.add("error", fault.kind, fault.where, fault.what, fault.mend)

    def problems(self) -> tuple[Problem, ...]:
        """Those kept, errors first."""
        return tuple(sorted(self._kept, key=lambda problem: problem.level != "error"))

    def unlisted(self) -> dict[str, int]:
        """How many of each kind were not kept."""
        more: Counter[str] = Counter()
        for (_, kind), count in self._counts.items():
            more[kind] += max(0, count - self._keep)
        return dict(+more)


class Twins:
    """Finds samples seen before: the same file under another split, the same pixels, the same name."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._pixels: dict[bytes, tuple[Listed, int]] = {}
        self._files: dict[bytes, Listed] = {}
        self._keys: dict[bytes, str] = {}
        self.shared_keys: dict[tuple[str, str], tuple[int, str]] = {}

    def see_file(self, dataset: Listed, index: int) -> bool:
        """Note the file and name of a sample; return whether another split lists the same file."""
        paths = dataset.paths(index)
        if paths is None:
            return False
        earlier = self._files.setdefault(_digest(str(paths[0].resolve()).encode()), dataset)
        if earlier is not dataset:
            what = f"the same file is listed in the splits {earlier.split!r} and {dataset.split!r}"
            self._findings.add("error", "split overlap", paths[0], what, "Take it out of one of them.")
            return True
        key = dataset.key(index)
        other = self._keys.setdefault(_digest(key.encode()), dataset.split)
        if other != dataset.split:
            count, example = self.shared_keys.get((other, dataset.split), (0, key))
            self.shared_keys[other, dataset.split] = count + 1, example
        return False

    def see_pixels(self, dataset: Listed, index: int, image: np.ndarray) -> None:
        """Note the pixels of a sample, uint8 ``[H, W, 3]``; report it when they were seen before."""
        content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=_DIGEST_BYTES)
        content.update(repr(image.shape).encode())
        twin, twin_index = self._pixels.setdefault(content.digest(), (dataset, index))
        if twin is dataset and twin_index == index:
            return
        first = place_of(twin, twin_index)
        if twin is dataset:
            what = f"has the same decoded pixels as {first}, within split {dataset.split!r}"
            self._findings.add("warning", "duplicate", place_of(dataset, index), what, "Keep one of the two.")
        else:
            what = f"is in split {dataset.split!r} and has the same decoded pixels as {first} in split {twin.split!r}"
            mend = "Remove it from one of the splits: figures measured on leaked images mean nothing."
            self._findings.add("error", "leakage", place_of(dataset, index), what, mend)
