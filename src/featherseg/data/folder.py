"""Any folder of images and masks, described by a small YAML or laid out as images/SPLIT and masks/SPLIT.

* Paths in the YAML are relative to it, so that a folder can be moved as a whole. Folders are read without their
  subfolders; a glob ("frames/*/left.png", "images/train/**/*.png") reads whatever it matches.
* Without a YAML the class names must still come from somewhere: ``classes.txt``, one name a line in id order.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np

from featherseg.data.folder_schema import Colour, FolderSpec, SplitSpec, check_values, read_spec
from featherseg.data.headers import IMAGE_SUFFIXES, SpoiltFile, read_bytes
from featherseg.data.images import read_colour_mask, read_mask
from featherseg.data.labels import IGNORE, LabelSet
from featherseg.data.pairs import PairedDataset, image_files, pair_by_stem
from featherseg.data.palette import distinct_colours
from featherseg.errors import FeathersegError, nearest

YAML_NAMES = ("featherseg.yaml", "featherseg.yml")
CLASSES_FILE = "classes.txt"


def find_files(root: Path, place: str) -> list[Path]:
    """Return the image files of a folder or of a glob, sorted; ``place`` is relative to ``root`` or absolute.

    Raises:
        FeathersegError: there is no such folder.
    """
    folder = root / place
    if folder.is_dir():
        return image_files(folder)
    if not any(character in place for character in "*?["):
        raise FeathersegError(f"{folder}: no such folder. Mend the path in the YAML; paths are relative to it.")
    anchor = Path(place).anchor
    base, pattern = (Path(anchor), place.removeprefix(anchor)) if anchor else (root, place)
    return sorted(p for p in base.glob(pattern) if p.suffix.lower() in IMAGE_SUFFIXES)


def label_set(spec: FolderSpec) -> LabelSet:
    """The label set a description declares; classes without colours get distinct ones."""
    names = tuple(spec.classes)
    palette = tuple(spec.classes.values()) if isinstance(spec.classes, dict) else distinct_colours(len(names))
    return LabelSet(spec.name, names, palette)


def label_reader(spec: FolderSpec) -> Callable[[Path], np.ndarray]:
    """Return the function that turns a mask file into ids by the description's colours, id_map and ignore."""
    names = list(spec.classes)

    def number(target: int | str) -> int:
        if isinstance(target, int):
            return target
        return IGNORE if target == "ignore" else names.index(target)

    ignored = [spec.ignore] if isinstance(spec.ignore, int) else list(spec.ignore)
    if spec.colours is not None:
        table = spec.classes if spec.colours == "classes" else spec.colours
        assert isinstance(table, dict)
        palette = {colour: number(name) for name, value in table.items() for colour in _colours(value)}
        return partial(read_colour_mask, palette=palette)
    if spec.id_map is not None:
        stored = {raw: number(target) for raw, target in spec.id_map.items()}
        return partial(read_mask, id_map={IGNORE: IGNORE} | dict.fromkeys(ignored, IGNORE) | stored)
    return partial(_read_ids, ignored=tuple(ignored), classes=len(names))


def _colours(value: Colour | list[Colour]) -> list[Colour]:
    return [value] if isinstance(value, tuple) else value


def _read_ids(path: Path, *, ignored: tuple[int, ...], classes: int) -> np.ndarray:
    if any(value > IGNORE for value in ignored):
        identity = {value: value for value in range(classes)} | {IGNORE: IGNORE}
        return read_mask(path, id_map=identity | dict.fromkeys(ignored, IGNORE))
    label = read_mask(path)
    for value in ignored:
        label[label == value] = IGNORE
    return label


class FolderDataset(PairedDataset):
    """A data set of image and mask files; made by :meth:`from_yaml` or :meth:`from_folder`."""

    @classmethod
    def from_yaml(cls, path: str | Path, split: str, *, lenient: bool = False) -> Self:
        """Open a split of the data set a YAML describes.

        Raises:
            FeathersegError: the YAML is at fault, there is no such split or folder, files lack their partner, or the
                split is empty.
        """
        path = Path(path)
        return cls._from_spec(path.parent, str(path), read_spec(path), split, lenient)

    @classmethod
    def from_folder(cls, root: str | Path, split: str, *, lenient: bool = False) -> Self:
        """Open a split of a folder that holds images/SPLIT, masks/SPLIT and classes.txt.

        Raises:
            FeathersegError: as :meth:`from_yaml`; without classes.txt the message holds a YAML to paste.
        """
        root = Path(root)
        return cls._from_spec(root, str(root), plain_spec(root), split, lenient)

    @classmethod
    def _from_spec(cls, root: Path, source: str, spec: FolderSpec, split: str, lenient: bool) -> Self:
        if split not in spec.splits:
            known = ", ".join(spec.splits)
            raise FeathersegError(f"{source}: no split {split!r}. There are: {known}{nearest(split, spec.splits)}.")
        place = spec.splits[split]
        images, masks = find_files(root, place.images), find_files(root, place.masks)
        if place.images == place.masks and spec.mask_suffix:
            masks = [p for p in images if p.stem.endswith(spec.mask_suffix)]
            images = [p for p in images if not p.stem.endswith(spec.mask_suffix)]
        listing = pair_by_stem(images, masks, spec.mask_suffix)
        return cls(root, split, label_set(spec), listing, label_reader(spec), lenient=lenient)


def find_yaml(root: Path) -> Path | None:
    """Return the description inside a folder, or None."""
    return next((root / name for name in YAML_NAMES if (root / name).is_file()), None)


def plain_splits(root: Path) -> list[str]:
    """Return the splits of a folder laid out as images/SPLIT and masks/SPLIT; an empty list if it is not."""
    if not (root / "images").is_dir():
        return []
    return sorted(p.name for p in (root / "images").iterdir() if p.is_dir() and (root / "masks" / p.name).is_dir())


def plain_spec(root: Path) -> FolderSpec:
    """Return what a YAML for ``root`` would say, its class names taken from classes.txt."""
    if not (root / CLASSES_FILE).is_file():
        raise FeathersegError(
            f"{root}: the layout images/SPLIT, masks/SPLIT is known, but not the names of the classes. Save this as "
            f"{root / YAML_NAMES[0]} with the names put right:\n{suggested_yaml(root)}"
        )
    text = read_bytes(root / CLASSES_FILE).decode("utf-8", "replace")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    splits = {s: SplitSpec(images=f"images/{s}", masks=f"masks/{s}") for s in plain_splits(root)}
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in root.resolve().name).strip("-") or "folder"
    spec = FolderSpec(name=name, classes=names, splits=splits)
    check_values(root / CLASSES_FILE, spec)
    return spec


def suggested_yaml(root: Path, look_at: int = 8) -> str:
    """Return a description of ``root`` whose number of classes is read off its first masks."""
    masks = chain.from_iterable(image_files(root / "masks" / split)[:look_at] for split in plain_splits(root))
    top = 1
    for mask in masks:
        try:
            label = read_mask(mask)
        except SpoiltFile:
            continue
        top = max(top, int(np.max(label, where=label != IGNORE, initial=0)))
    classes = ", ".join(f"class_{number}" for number in range(top + 1))
    splits = "".join(f"  {s}: {{images: images/{s}, masks: masks/{s}}}\n" for s in plain_splits(root))
    return f"name: {root.resolve().name or 'my-data'}\nclasses: [{classes}]\nsplits:\n{splits}"
