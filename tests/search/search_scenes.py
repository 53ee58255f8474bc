"""Pictures of a box on a ground, 64x64 with three classes, made in memory: a data set for miniature searches."""

import numpy as np

from featherseg.data.dataset import Sample
from featherseg.data.labels import IGNORE, LabelSet

PAINTED = LabelSet("painted3", ("ground", "box", "sky"), ((128, 64, 0), (255, 0, 0), (0, 128, 255)))


class PaintedScenes:
    """Each a pure function of its index."""

    def __init__(self, split: str, count: int) -> None:
        self.name, self.split, self.labels, self.count = "painted3/64x64", split, PAINTED, count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        random = np.random.default_rng([len(self.split), index])
        label = np.zeros((64, 64), np.uint8)
        label[: random.integers(10, 30)] = 2
        top, left = random.integers(10, 40, 2)
        label[top : top + 20, left : left + 20] = 1
        image = np.array(PAINTED.palette, np.uint8)[label] // 2 + random.integers(0, 90, (64, 64, 3)).astype(np.uint8)
        label[:2] = IGNORE
        return Sample(image, label, self.key(index))

    def key(self, index: int) -> str:
        return f"{self.split}-{index}"

    def paths(self, index: int) -> None:
        return None

    def fingerprint(self) -> str:
        return f"painted3-1-{self.split}-{self.count}"
