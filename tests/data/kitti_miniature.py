"""KITTI's object layout with a few tiny frames, for the tests that read it."""

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 60, 40
CAR = "Car 0.10 1 -1.57 10.00 12.50 30.25 30.00 1.5 1.6 3.9 1.0 1.6 20.0 -1.5"
VAN = "Van 0.00 0 0.00 35.00 10.00 50.00 25.00 2.0 1.9 5.0 3.0 1.6 25.0 0.1"
TRUCK = "Truck 0.00 2 0.00 40.00 2.00 58.00 24.00 3.0 2.5 9.0 5.0 1.6 30.0 0.1"
PEDESTRIAN = "Pedestrian 0.00 0 0.20 5.00 10.00 9.00 22.00 1.8 0.5 0.9 -4.0 1.6 15.0 0.2"
DONT_CARE = "DontCare -1 -1 -10 1.00 2.00 8.00 6.00 -1 -1 -1 -1000 -1000 -1000 -10"


def write_frame(root: Path, key: str, lines: list[str] | None, part: str = "training", suffix: str = ".png") -> Path:
    """Write one image of noise and, but for ``lines`` None, its label, whose path is returned."""
    image = root / part / "image_2" / f"{key}{suffix}"
    label = root / part / "label_2" / f"{key}.txt"
    for path in (image, label) if part == "training" else (image,):
        path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, f"{part}{key}"))
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    if lines is not None:
        label.write_text("".join(f"{line}\n" for line in lines))
    return label


def write_sets(root: Path, **splits: list[str]) -> None:
    """Write ImageSets: split to keys."""
    (root / "ImageSets").mkdir(exist_ok=True)
    for split, keys in splits.items():
        (root / "ImageSets" / f"{split}.txt").write_text("".join(f"{key}\n" for key in keys))


def write_kitti(root: Path) -> Path:
    """Four frames, three of them for training; two images without labels for the test."""
    for key, lines in {
        "000000": [CAR, VAN, DONT_CARE],
        "000001": [TRUCK, PEDESTRIAN, CAR.replace("10.00", "11.00")],
        "000002": [CAR],
        "000005": [PEDESTRIAN, DONT_CARE],
    }.items():
        write_frame(root, key, lines)
    for key in ("000000", "000001"):
        write_frame(root, key, None, part="testing")
    write_sets(root, train=["000000", "000001", "000005"], val=["000002"])
    return root
