"""Cityscapes (Cordts et al. 2016) as it is distributed: ``leftImg8bit`` and ``gtFine``, a folder for each city.

Labels are the ``labelIds`` files, whose 34 ids are mapped to the 19 train classes; everything else is ignored. Masks
that already hold train ids (``labelTrainIds``) are taken where they lie beside them.
"""

from pathlib import Path

import numpy as np

from featherseg.data.headers import SpoiltFile
from featherseg.data.images import describe_counts, read_mask
from featherseg.data.labels import CITYSCAPES19, IGNORE
from featherseg.data.pairs import Listing, Pair, PairedDataset
from featherseg.errors import FeathersegError

SPLITS = ("train", "val", "test")
IMAGES, LABELS = "leftImg8bit", "gtFine"
IMAGE_SUFFIX = "_leftImg8bit.png"
LABEL_SUFFIXES = ("_gtFine_labelTrainIds.png", "_gtFine_labelIds.png")
# The label id of each train id, in train-id order.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
LARGEST_LABEL_ID = 33

_TO_TRAIN_ID = np.full(256, IGNORE, np.uint8)
_TO_TRAIN_ID[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))


def cityscapes_splits(root: Path) -> list[str]:
    """Return the splits of a Cityscapes folder; an empty list if it is not one."""
    return [s for s in SPLITS if (root / IMAGES / s).is_dir() and (root / LABELS / s).is_dir()]


def _read_label(path: Path) -> np.ndarray:
    label = read_mask(path)
    if path.name.endswith(LABEL_SUFFIXES[0]):
        return label
    outside = (label > LARGEST_LABEL_ID) & (label != IGNORE)
    if outside.any():
        what = f"ids above {LARGEST_LABEL_ID} in a labelIds mask: {describe_counts(label[outside])}"
        raise SpoiltFile("id out of range", path, what, "Restore the file from the original data set.")
    return _TO_TRAIN_ID[label]


def _listing(root: Path, split: str) -> Listing:
    pairs, bare = [], []
    for image in sorted((root / IMAGES / split).glob(f"*/*{IMAGE_SUFFIX}")):
        stem = image.name.removesuffix(IMAGE_SUFFIX)
        labels = [root / LABELS / split / image.parent.name / f"{stem}{suffix}" for suffix in LABEL_SUFFIXES]
        found = next((path for path in labels if path.is_file()), None)
        if found is None:
            bare.append(image)
        else:
            pairs.append(Pair(stem, image, found))
    return Listing(tuple(pairs), tuple(bare))


class Cityscapes(PairedDataset):
    """One split of Cityscapes with fine labels, 2048x1024, 19 classes.

    Args:
        root: holds ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``.
        split: "train" (2,975 images), "val" (500) or "test" (whose published labels are all ignore).

    Raises:
        FeathersegError: not this layout, no such split, or images without labels.
    """

    def __init__(self, root: str | Path, split: str, *, lenient: bool = False) -> None:
        root = Path(root)
        if split not in cityscapes_splits(root):
            known = ", ".join(cityscapes_splits(root)) or f"none (it needs {IMAGES}/ and {LABELS}/)"
            raise FeathersegError(f"{root}: no Cityscapes split {split!r}. There are: {known}.")
        super().__init__(root, split, CITYSCAPES19, _listing(root, split), _read_label, lenient=lenient)
