"""Street scenes written as a Cityscapes folder: the exact layout and file formats, with nobody's pictures.

Cityscapes needs a licence, so that no test or benchmark can bring it along; what runs on this tree runs on it.

* The 11 classes of the scenes are spread over the label ids by place and by instance, so that all 19 classes, ids that
  are not judged, crowds and instances of caravans and trailers occur. What the scenes show is not changed: a "train"
  looks like a car, and a network that learns from this learns nothing useful.
* Coarse labels are the fine ones without a band along every edge, as coarse polygons leave them.
* Fine labels of ``test`` are void, as they are published.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from featherseg.data.labels import CAMVID11
from featherseg.data.streets.scenes import Streets
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.randomness import generator

MINIATURE: Mapping[str, Mapping[str, int]] = {
    "train": {"aachen": 2, "ulm": 1, "zurich": 1},
    "val": {"frankfurt": 2, "munster": 1},
    "test": {"berlin": 1, "munich": 1},
    "train_extra": {"augsburg": 1, "bad-honnef": 1},
}
"""Frames by split and city of a tree that is quickly written."""

UNLABELED, EGO_VEHICLE, OUT_OF_ROI, STATIC, PARKING = 0, 1, 3, 4, 9
CROWD_SHARE = 0.15

# Label ids of a class of the scenes: in the left and in the right half of the image.
_BY_CLASS = {
    "sky": (23, 23), "building": (11, 11), "pole": (17, 17), "road": (7, 7), "pavement": (8, 8), "tree": (21, 22),
    "sign": (19, 20), "fence": (12, 13), "car": (26, 26), "pedestrian": (24, 24), "bicyclist": (33, 33),
}  # fmt: skip
# Label ids that instances of a class are given at random: caravans (29) and trailers (30) among the vehicles.
_BY_INSTANCE = {"car": (26, 26, 26, 27, 28, 29, 30, 31, 32), "pedestrian": (24, 24, 24, 25), "bicyclist": (33, 25)}


def cityscapes_scene(scenes: Streets, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One scene under Cityscapes' ids.

    Returns:
        image uint8 RGB ``[H, W, 3]``, label ids uint8 ``[H, W]``, instance ids uint16 ``[H, W]``.
    """
    sample, numbers = scenes.read_with_instances(index)
    table = np.full((256, 2), STATIC, np.uint8)
    for name, ids in _BY_CLASS.items():
        table[CAMVID11.classes.index(name)] = ids
    height, width = sample.label.shape
    ids = table[sample.label, (np.arange(width) >= width / 2).astype(int)]
    ids[:, : width // 8][ids[:, : width // 8] == 7] = PARKING
    instances = ids.astype(np.uint16)
    lots = generator(scenes.seed, f"cityscapes-{scenes.split}", index)
    seen: dict[int, int] = {}
    for number in range(1, int(numbers.max()) + 1):
        place = numbers == number
        drawn, lot = lots.random(2)
        if not place.any():
            continue
        choices = _BY_INSTANCE[CAMVID11.classes[sample.label[place][0]]]
        label = choices[int(drawn * len(choices))]
        ids[place] = label
        instances[place] = label if lot < CROWD_SHARE else label * 1000 + seen.setdefault(label, 0)
        seen[label] = seen.get(label, 0) + 1
    for margin in (np.s_[: height // 32 + 1], np.s_[:, : width // 64 + 1]):
        ids[margin] = instances[margin] = OUT_OF_ROI
    bonnet = np.s_[height - height // 16 :]
    ids[bonnet] = instances[bonnet] = EGO_VEHICLE
    return sample.image, ids, instances


def coarse_labels(ids: np.ndarray, instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fine labels and instances ``[H, W]`` with a band along every edge unlabeled, 1/64 of the height wide or so."""
    side = 2 * (ids.shape[0] // 128) + 3
    kernel = np.ones((side, side), np.uint8)
    edge = cv2.dilate(instances, kernel) != cv2.erode(instances, kernel)
    return np.where(edge, UNLABELED, ids).astype(np.uint8), np.where(edge, UNLABELED, instances).astype(np.uint16)


def write_cityscapes(
    root: str | Path,
    frames: Mapping[str, Mapping[str, int]] = MINIATURE,
    *,
    size: tuple[int, int] = (64, 128),
    seed: int = 0,
) -> Path:
    """Write ``leftImg8bit``, ``gtFine`` and ``gtCoarse`` into ``root`` and return it.

    Args:
        frames: split ("train", "val", "test", "train_extra") to city to number of frames.
        size: (height, width) of the images.

    Raises:
        FeathersegError: the folder cannot be written.
    """
    root = Path(root)
    places = [
        (split, city, n) for split, cities in frames.items() for city, count in cities.items() for n in range(count)
    ]
    scenes = Streets("train", max(1, len(places)), size=size, seed=seed)
    for index, (split, city, number) in enumerate(places):
        image, ids, instances = cityscapes_scene(scenes, index)
        stem = f"{city}_{number:06d}_000019"
        _write(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if split != "test":
            _write_labels(root, "gtCoarse", split, city, stem, *coarse_labels(ids, instances))
        else:
            ids = np.where(ids == EGO_VEHICLE, ids, OUT_OF_ROI).astype(np.uint8)
            instances = ids.astype(np.uint16)
        if split != "train_extra":
            _write_labels(root, "gtFine", split, city, stem, ids, instances)
    return root


def _write_labels(
    root: Path, kind: str, split: str, city: str, stem: str, ids: np.ndarray, instances: np.ndarray
) -> None:
    folder = root / kind / split / city
    _write(folder / f"{stem}_{kind}_labelIds.png", ids)
    _write(folder / f"{stem}_{kind}_instanceIds.png", instances)


def _write(path: Path, picture: np.ndarray) -> None:
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise FeathersegError(f"{path}: a picture of {picture.shape[1]} x {picture.shape[0]} cannot be stored as PNG.")
    atomic_write(path, data.tobytes())
