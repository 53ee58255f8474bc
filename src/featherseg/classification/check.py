"""Read every image of a folder of classified images and report what would spoil a training.

* Of a folder without splits the images are looked at as one; one with splits is looked at split by split, with the
  same pixels in two of them as leakage.
* Errors spoil a training or its judgement; warnings are worth a look. Memory is constant but for a digest an image.
* Two class names that differ in case, spaces, hyphens or underscores alone are most likely one class, spelt twice.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from featherseg.classification.class_folders import find_class_folders, is_image
from featherseg.classification.folder import ImageFolder
from featherseg.classification.sources import available_parts, has_splits
from featherseg.data.findings import Findings, Problem
from featherseg.data.headers import SpoiltFile
from featherseg.data.images import read_image
from featherseg.errors import FeathersegError

ALL = "all"
"""What the one part of a folder without splits is called in a report."""


@dataclass(frozen=True)
class ClassCheckReport:
    """What :func:`check_class_folders` found.

    ``splits`` counts images and those read without fault; ``classes`` counts images by split; ``sizes`` by "width x
    height", the most frequent first; ``unlisted`` counts, by kind, the problems beyond those kept.
    """

    data: str
    name: str
    splits: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    sizes: dict[str, int]
    problems: tuple[Problem, ...]
    unlisted: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that would spoil a training."""
        return all(problem.level != "error" for problem in self.problems)

    def to_dict(self) -> dict:
        """The report as plain JSON types, ``ok`` first."""
        return {"ok": self.ok, **asdict(self), "problems": [asdict(problem) for problem in self.problems]}


@dataclass(frozen=True)
class _Part:
    """One split: its name, class of every image and how one is read; ``folders`` are its class folders, if unpacked."""

    split: str
    names: list[str]
    read: Callable[[int], np.ndarray]
    where: Callable[[int], str]
    folders: dict[str, Path]


def check_class_folders(
    root: str | Path, *, progress: Callable[[int, int], None] | None = None, keep: int = 20
) -> ClassCheckReport:
    """Read every image in the class folders of ``root`` and report.

    Args:
        root: as :func:`~featherseg.classification.sources.open_images` takes it.
        progress: called with (images done, images in all) after each image.
        keep: how many problems of each kind are listed; the others are counted.

    Raises:
        FeathersegError: there are no images in class folders.
    """
    root, findings = Path(root), Findings(keep)
    name, parts = _open(root, findings)
    total, done = sum(len(part.names) for part in parts), 0
    seen: dict[bytes, tuple[_Part, int]] = {}
    sizes: Counter[str] = Counter()
    splits: dict[str, dict[str, int]] = {}
    for part in parts:
        sound = 0
        for index in range(len(part.names)):
            try:
                image = part.read(index)
            except SpoiltFile as fault:
                findings.spoilt(fault)
            except FeathersegError as error:
                findings.add(
                    "error", "unreadable image", part.where(index), str(error).removesuffix("."), "Replace it."
                )
            else:
                sound += 1
                sizes[f"{image.shape[1]}x{image.shape[0]}"] += 1
                _compare(part, index, image, seen, findings)
            done += 1
            if progress:
                progress(done, total)
        splits[part.split] = {"images": len(part.names), "sound": sound}
    counts = {part.split: Counter(part.names) for part in parts}
    classes = {kind: {split: count[kind] for split, count in counts.items()} for kind in _classes(parts)}
    _check_classes(parts, counts, findings)
    return ClassCheckReport(
        str(root), name, splits, classes, dict(sizes.most_common()), findings.problems(), findings.unlisted()
    )


def _open(root: Path, findings: Findings) -> tuple[str, list[_Part]]:
    if has_splits(root):
        return root.resolve().name, list(_own_splits(root, findings))
    listing = find_class_folders(root)
    if listing is None:
        raise FeathersegError(f"{root}: holds no images in class folders. Expected CLASS/IMAGE or train/CLASS/IMAGE.")
    entries = [(kind, listing.place / path) for kind in listing.folders for path in listing.images(kind)]
    part = _Part(
        ALL,
        [kind for kind, _ in entries],
        lambda index: read_image(entries[index][1]),
        lambda index: str(entries[index][1]),
        {kind: listing.place / folder for kind, folder in listing.folders.items()},
    )
    return listing.name, [part]


def _own_splits(root: Path, findings: Findings) -> Iterator[_Part]:
    for split in available_parts(root):
        try:
            images = ImageFolder(root, split)
        except FeathersegError as error:
            findings.add("error", "split", root / split, str(error).removesuffix("."), "Mend it, then check again.")
            continue
        place = root / split
        folders = (
            {entry.name: Path(entry.path) for entry in os.scandir(place) if entry.is_dir()} if place.is_dir() else {}
        )
        names = [kind for kind, _ in images.entries]
        if (place / "val_annotations.txt").is_file():
            folders = {}  # Tiny-ImageNet's flat split: its one folder is no class
        yield _Part(
            split,
            names,
            lambda index, images=images: images.read_pixels(index),
            lambda index, images=images, place=place: str(place / images.entries[index][1]),
            folders,
        )


def _classes(parts: list[_Part]) -> list[str]:
    return sorted({kind for part in parts for kind in (*part.names, *part.folders)})


def _compare(
    part: _Part, index: int, image: np.ndarray, seen: dict[bytes, tuple[_Part, int]], findings: Findings
) -> None:
    """Report an image whose pixels were seen before."""
    content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    content.update(repr(image.shape).encode())
    twin, place = seen.setdefault(content.digest(), (part, index))
    if twin is part and place == index:
        return
    here, there = part.names[index], twin.names[place]
    what = f"has the same decoded pixels as {twin.where(place)}"
    if twin is not part:
        mend = "Remove it from one of the splits: figures measured on leaked images mean nothing."
        findings.add("error", "leakage", part.where(index), f"is in split {part.split!r} and {what}", mend)
    elif here != there:
        mend = f"Decide between {there!r} and {here!r}, and remove the other."
        findings.add("warning", "two classes", part.where(index), f"{what}, of another class", mend)
    else:
        findings.add("warning", "duplicate", part.where(index), what, "Keep one of the two.")


def _check_classes(parts: list[_Part], counts: dict[str, Counter[str]], findings: Findings) -> None:
    for part in parts:
        for kind, folder in part.folders.items():
            count = counts[part.split][kind]
            if not count:
                findings.add("error", "empty class", folder, "the class has no image", "Fill the folder or remove it.")
            elif count == 1 and part.split in (ALL, "train"):
                what, mend = "the class has one image", "Add some: it can be learnt or judged, but not both."
                findings.add("error" if part.split == ALL else "warning", "one image", folder, what, mend)
            if count:
                _check_strays(folder, findings)
        spelt: dict[str, str] = {}
        for kind in sorted({*part.names, *part.folders}):
            first = spelt.setdefault(re.sub(r"[\s_.-]+", "", kind).casefold(), kind)
            if first != kind:
                what = f"class {kind!r} looks like {first!r}, spelt in another way"
                findings.add("warning", "two spellings", f"split {part.split}", what, "Join the two folders, if it is.")
    train = next((part for part in parts if part.split == "train"), None)
    for part in parts:
        if train is None or part is train:
            continue
        for kind in sorted(set(part.names) - set(train.names)):
            what, mend = f"class {kind!r} does not occur in train", "Name its folder as in train, or remove it."
            findings.add("error", "unknown class", f"split {part.split}", what, mend)
        for kind in sorted(set(train.names) - set(part.names)):
            what, mend = (
                f"class {kind!r} has no image here",
                "It cannot be judged on this split: move some, or live with it.",
            )
            findings.add("warning", "absent class", f"split {part.split}", what, mend)


def _check_strays(folder: Path, findings: Findings) -> None:
    """Files in a class's folder that are not read."""
    strays = sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_file() and not entry.name.startswith(".") and not is_image(entry.name)
    )
    if strays:
        more = f" and {len(strays) - 1} more" if len(strays) > 1 else ""
        findings.add("warning", "not an image", folder / strays[0], f"is not read, by its name{more}", "Remove it.")


def summary_lines(report: ClassCheckReport, *, each: int = 3) -> list[str]:
    """The report as lines of text: splits, classes, problems (``each`` of every kind) and the verdict."""
    from featherseg.data.check_summary import problem_lines, sizes_line

    lines = [f"{report.data}: {report.name}, {len(report.classes)} classes", ""]
    width = max(len(name) for name in [*report.splits, "split"]) + 2
    lines.append(f"{'split':<{width}}{'images':>8}{'sound':>8}")
    lines += [f"{name:<{width}}{part['images']:>8}{part['sound']:>8}" for name, part in report.splits.items()]
    counts = sorted(sum(by_split.values()) for by_split in report.classes.values())
    if counts:
        lines += ["", f"images of a class: {counts[0]} to {counts[-1]}, half have {counts[len(counts) // 2]} or more"]
    lines += [f"sizes: {sizes_line(report.sizes)}", "", *problem_lines(report.problems, report.unlisted, each)]
    verdict = "fit for training" if report.ok else "NOT fit for training: mend the errors above"
    return [*lines, f"{report.data}: {verdict}."]
