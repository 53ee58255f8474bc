"""CamVid (Brostow et al. 2009), in the layout of SegNet (Badrinarayanan et al. 2017) and in its original one.

* SegNet layout: 480x360, ids 0..10 in grey PNGs, 11 = void. The lists name files as "/SegNet/CamVid/train/x.png ..." or
  relative to the folder; only the last two parts are looked at. Without lists the folders are the split.
* Original layout: 960x720, a colour for each of 32 classes, stills and labels in one folder each. The split is
  SegNet's, known by frame names. The 32 classes are grouped to 11 as MathWorks published it with their SegNet example;
  Void is ignored. ``label_colors.txt`` is not read: the colours are part of the data set.
"""

from functools import partial
from pathlib import Path

import numpy as np

from featherseg.data.camvid_split import split_stems
from featherseg.data.headers import SpoiltFile, read_bytes
from featherseg.data.images import describe_counts, read_colour_mask, read_mask
from featherseg.data.labels import CAMVID11, IGNORE
from featherseg.data.pairs import Listing, Pair, PairedDataset, image_files, pair_by_stem
from featherseg.errors import FeathersegError

SPLITS = ("train", "val", "test")
STILLS, LABELS = "701_StillsRaw_full", "LabeledApproved_full"

CAMVID32: dict[str, tuple[tuple[int, int, int], str | None]] = {
    # class of the original: its colour, its group among the 11
    "Animal": ((64, 128, 64), "pedestrian"),
    "Archway": ((192, 0, 128), "building"),
    "Bicyclist": ((0, 128, 192), "bicyclist"),
    "Bridge": ((0, 128, 64), "building"),
    "Building": ((128, 0, 0), "building"),
    "Car": ((64, 0, 128), "car"),
    "CartLuggagePram": ((64, 0, 192), "pedestrian"),
    "Child": ((192, 128, 64), "pedestrian"),
    "Column_Pole": ((192, 192, 128), "pole"),
    "Fence": ((64, 64, 128), "fence"),
    "LaneMkgsDriv": ((128, 0, 192), "road"),
    "LaneMkgsNonDriv": ((192, 0, 64), "road"),
    "Misc_Text": ((128, 128, 64), "sign"),
    "MotorcycleScooter": ((192, 0, 192), "bicyclist"),
    "OtherMoving": ((128, 64, 64), "car"),
    "ParkingBlock": ((64, 192, 128), "pavement"),
    "Pedestrian": ((64, 64, 0), "pedestrian"),
    "Road": ((128, 64, 128), "road"),
    "RoadShoulder": ((128, 128, 192), "pavement"),
    "Sidewalk": ((0, 0, 192), "pavement"),
    "SignSymbol": ((192, 128, 128), "sign"),
    "Sky": ((128, 128, 128), "sky"),
    "SUVPickupTruck": ((64, 128, 192), "car"),
    "TrafficCone": ((0, 0, 64), "pole"),
    "TrafficLight": ((0, 64, 64), "sign"),
    "Train": ((192, 64, 128), "car"),
    "Tree": ((128, 128, 0), "tree"),
    "Truck_Bus": ((192, 128, 192), "car"),
    "Tunnel": ((64, 0, 64), "building"),
    "VegetationMisc": ((192, 192, 0), "tree"),
    "Void": ((0, 0, 0), None),
    "Wall": ((64, 192, 0), "building"),
}

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


def original_splits(root: Path) -> list[str]:
    """Return the splits of a folder in CamVid's original layout; an empty list if it is not one."""
    return list(SPLITS) if (root / STILLS).is_dir() and (root / LABELS).is_dir() else []


def _original_palette() -> dict[tuple[int, int, int], int]:
    return {colour: IGNORE if group is None else CAMVID11.classes.index(group) for colour, group in CAMVID32.values()}


def _original_listing(root: Path, split: str) -> Listing:
    pairs, bare_images, bare_masks = [], [], []
    for stem in split_stems(split):
        pair = Pair(stem, root / STILLS / f"{stem}.png", root / LABELS / f"{stem}_L.png")
        if not pair.image.is_file():
            bare_masks.append(pair.mask)
        elif not pair.mask.is_file():
            bare_images.append(pair.image)
        else:
            pairs.append(pair)
    return Listing(tuple(pairs), tuple(bare_images), tuple(bare_masks))


class CamVidOriginal(PairedDataset):
    """CamVid at 960x720 as its authors published it, its 32 classes grouped to 11.

    Args:
        root: holds ``701_StillsRaw_full`` and ``LabeledApproved_full``.
        split: "train", "val" or "test", by the frame names of the published split.

    Raises:
        FeathersegError: not this layout, no such split, or frames of the split are missing.
    """

    def __init__(self, root: str | Path, split: str, *, lenient: bool = False) -> None:
        root = Path(root)
        if split not in original_splits(root):
            known = ", ".join(original_splits(root)) or f"none (it needs {STILLS}/ and {LABELS}/)"
            raise FeathersegError(f"{root}: no CamVid split {split!r}. There are: {known}.")
        read_label = partial(read_colour_mask, palette=_original_palette())
        super().__init__(root, split, CAMVID11, _original_listing(root, split), read_label, lenient=lenient)
