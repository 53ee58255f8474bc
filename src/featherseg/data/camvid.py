"""CamVid (Brostow et al. 2009), in the layout of SegNet (Badrinarayanan et al. 2017) and in its original one.

* SegNet layout: 480x360, ids 0..10 in grey PNGs, 11 = void. The lists name files as "/SegNet/CamVid/train/x.png ..." or
  relative to the folder; only the last two parts are looked at, so both work. Without lists the folders are the split.
"""

from pathlib import Path

import numpy as np

from featherseg.data.images import SpoiltFile, describe_counts, read_bytes, read_mask
from featherseg.data.labels import CAMVID11, IGNORE
from featherseg.data.pairs import Listing, Pair, PairedDataset, image_files, pair_by_stem
from featherseg.errors import FeathersegError

SPLITS = ("train", "val", "test")
_VOID = len(CAMVID11)


def segnet_splits(root: Path) -> list[str]:
    """Return the splits of a folder in the SegNet layout; an empty list if it is not one."""
    return [s for s in SPLITS if (root / s).is_dir() and (root / f"{s}annot").is_dir()]


def _read_segnet_label(path: Path) -> np.ndarray:
    label = read_mask(path)
    outside = (label > _VOID) & (label != IGNORE)
    if outside.any():
        what = f"ids above 11 in a CamVid mask (0..10 = classes, 11 = void): {describe_counts(label[outside])}"
        raise SpoiltFile("id out of range", path, what, "Restore the file from the original data set.")
    label[label == _VOID] = IGNORE
    return label


def _inside(root: Path, written: str) -> Path:
    return root.joinpath(*Path(written).parts[-2:])


def _read_list(root: Path, file: Path) -> Listing:
    pairs, bare_images, bare_masks, seen = [], [], [], set()
    for number, line in enumerate(read_bytes(file).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        parts = line.split()
        if len(parts) != 2:
            raise FeathersegError(
                f"{file}: line {number} has {len(parts)} entries, not two. Write 'image mask' on each line."
            )
        image, mask = (_inside(root, part) for part in parts)
        if image in seen:
            raise FeathersegError(f"{file}: line {number} lists {image.name} a second time. Remove the line.")
        seen.add(image)
        if not image.is_file():
            bare_masks.append(mask)
        elif not mask.is_file():
            bare_images.append(image)
        else:
            pairs.append(Pair(image.stem, image, mask))
    return Listing(tuple(pairs), tuple(bare_images), tuple(bare_masks))


class CamVid(PairedDataset):
    """CamVid in the SegNet layout: 11 classes, void ignored.

    Args:
        root: holds ``train``, ``trainannot`` and so on, and perhaps ``train.txt`` and so on.
        split: "train", "val" or "test".

    Raises:
        FeathersegError: no such split, or files of it are missing.
    """

    def __init__(self, root: str | Path, split: str, *, lenient: bool = False) -> None:
        root = Path(root)
        if split not in segnet_splits(root):
            known = ", ".join(segnet_splits(root)) or "none"
            raise FeathersegError(
                f"{root}: no CamVid split {split!r} ({split}/ and {split}annot/). There are: {known}."
            )
        list_file = root / f"{split}.txt"
        if list_file.is_file():
            listing = _read_list(root, list_file)
        else:
            listing = pair_by_stem(image_files(root / split), image_files(root / f"{split}annot"))
        super().__init__(root, split, CAMVID11, listing, _read_segnet_label, lenient=lenient)
