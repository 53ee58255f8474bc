"""From what a person types as DATA to a split of classified images: with splits of its own, or cut by a draw."""

import os
from pathlib import Path
from typing import Any

from featherseg.classification.class_folders import ClassFolders, ClassifiedImages, SplitSettings, find_class_folders
from featherseg.classification.folder import ImageFolder
from featherseg.classification.split import PARTS
from featherseg.errors import FeathersegError


def has_splits(root: str | Path, train_split: str = "train") -> bool:
    """Whether the folder has splits of its own: TRAIN/CLASS/IMAGE, or TRAIN.zip."""
    place = Path(root) / train_split
    unpacked = place.is_dir() and any(entry.is_dir() for entry in os.scandir(place))
    return unpacked or place.with_name(f"{train_split}.zip").is_file()


def is_classified(root: str | Path) -> bool:
    """Whether a folder looks like images in class folders, with splits or without."""
    return has_splits(root) or find_class_folders(root) is not None


def split_settings(data: dict[str, Any]) -> SplitSettings:
    """How a recipe's data section, as JSON has it, cuts a folder without splits."""
    file = data.get("split_file")
    return SplitSettings(
        test_count=data.get("test_count"),
        val_count=data.get("val_count"),
        seed=data.get("seed") or 0,
        drop=tuple(data.get("drop_classes") or ()),
        background=data.get("background", True),
        file=Path(file) if file else None,
    )


def open_images(
    root: str | Path, split: str, settings: SplitSettings | None = None, *, train_split: str = "train"
) -> ClassifiedImages:
    """Open one split; files are listed, none is decoded.

    Args:
        root: a folder with splits (TRAIN/CLASS/IMAGE, or zips of that), or without (CLASS/IMAGE, Caltech).
        split: its name; "train", "val", "test" or "trainval" where there are none.
        settings: how a folder without splits is cut; by the defaults if None.
        train_split: which split names the classes of a folder with splits.

    Raises:
        FeathersegError: no such folder or split, or one that cannot be used as it is.
    """
    root, settings = Path(root), settings or SplitSettings()
    if has_splits(root, train_split) or find_class_folders(root) is None:
        idle = [name for name in ("test_count", "drop", "file") if getattr(settings, name)]
        if has_splits(root, train_split) and (idle or not settings.background):
            name = {"test_count": "test_count", "drop": "drop_classes", "file": "split_file"}[idle[0]] if idle else ""
            raise FeathersegError(
                f"{root}: has splits of its own, so that data.{name or 'background'} has nothing to decide. Leave it "
                "out."
            )
        return ImageFolder(root, split, train_split)
    return ClassFolders(root, split, settings)


def available_parts(root: str | Path) -> list[str]:
    """The names of the splits that :func:`open_images` opens, train first."""
    if not has_splits(root):
        return list(PARTS)
    found = {entry.stem for entry in Path(root).iterdir() if entry.is_dir() or entry.suffix == ".zip"}
    return sorted(found, key=lambda name: (name != "train", name))
