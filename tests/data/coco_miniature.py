"""Builds COCO 2017 folders of a few tiny pictures, in the official layout, whole or with a fault put in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = (
    (1, "person"), (2, "bicycle"), (3, "car"), (4, "motorcycle"), (5, "airplane"), (6, "bus"), (7, "train"),
    (8, "truck"), (13, "stop sign"), (14, "parking meter"),
)  # fmt: skip
HEIGHT, WIDTH = 40, 50


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """A polygon segmentation that covers exactly these whole pixels."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(number: int, image: int, category: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    return {
        "id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": crowd,
        "area": 1.0, "bbox": [0, 0, 1, 1],
    }  # fmt: skip


def content(count: int = 2, first: int = 1) -> dict[str, Any]:
    """An instances JSON of ``count`` images; each shows a car of 1,000 pixels (25 rows of 40)."""
    numbers = range(first, first + count)
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": n, "file_name": f"{n:012d}.jpg", "height": HEIGHT, "width": WIDTH, "license": 1} for n in numbers
        ],
        "annotations": [annotation(100 + n, n, 3, box(0, 0, 40, 25)) for n in numbers],
        "categories": [{"id": number, "name": name, "supercategory": "x"} for number, name in CATEGORIES],
    }


def make_coco(root: Path, value: dict[str, Any] | None = None, split: str = "train", nested: bool = False) -> Path:
    """Write a split's JSON and a picture for each of its images; ``nested`` puts pictures below images/."""
    value = content() if value is None else value
    write_json(root, value, split)
    folder = (root / "images" if nested else root) / f"{split}2017"
    folder.mkdir(parents=True, exist_ok=True)
    for image in value["images"]:
        pixels = np.random.default_rng(image["id"]).integers(0, 256, (image["height"], image["width"], 3), np.uint8)
        Image.fromarray(pixels).save(folder / image["file_name"])
    return root


def write_json(root: Path, value: Any, split: str = "train") -> Path:
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path
