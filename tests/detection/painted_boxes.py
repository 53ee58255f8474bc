"""A procedural data set of coloured rectangles on grey: small, exact, and easy to learn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherseg.data.boxes import BoxSample
from featherseg.metrics.kitti import DONT_CARE, KittiTruth
from featherseg.randomness import generator

COLOURS = ((220, 40, 40), (40, 80, 230))


@dataclass(frozen=True)
class PaintedBoxes:
    """``count`` images of ``size`` (H, W) with one to three rectangles each, all listed ``repeats`` times.

    With ``regions`` each has an ignored region at its upper edge too.
    """

    split: str = "train"
    count: int = 4
    size: tuple[int, int] = (96, 160)
    classes: tuple[str, ...] = ("Car", "Pedestrian")
    regions: bool = False
    repeats: int = 1
    name: str = "painted"

    def __len__(self) -> int:
        return self.count * self.repeats

    def read(self, index: int) -> BoxSample:
        random = generator(7, f"painted {self.split}", index % self.count)
        height, width = self.size
        image = np.full((height, width, 3), 120, np.uint8) + random.integers(0, 12, (height, width, 1), np.uint8)
        boxes, labels = [], []
        for place in range(int(random.integers(1, 1 + width // 50))):
            label = int(random.integers(len(self.classes)))
            tall, wide = int(random.integers(42, min(60, height))), int(random.integers(30, 46))
            top, left = int(random.integers(height - tall)), 50 * place + int(random.integers(4))
            image[top : top + tall, left : left + wide] = COLOURS[label]
            boxes.append((left, top, left + wide, top + tall))
            labels.append(label)
        ignored = np.array([[0, 0, width, 4]], np.float32) if self.regions else np.zeros((0, 4), np.float32)
        return BoxSample(image, np.array(boxes, np.float32), np.array(labels), ignored, self.key(index))

    def truth(self, index: int) -> KittiTruth:
        sample = self.read(index)
        names = (*(self.classes[label] for label in sample.labels), *(DONT_CARE for _ in sample.ignored))
        boxes = np.concatenate([sample.boxes, sample.ignored]).astype(np.float64)
        return KittiTruth(names, boxes, np.zeros(len(names)), np.zeros(len(names), np.int64))

    def key(self, index: int) -> str:
        return f"{self.split}-{index}"

    def paths(self, index: int) -> tuple[Path, Path] | None:
        return None

    def fingerprint(self) -> str:
        return f"painted-{self.split}-{self.count}"
