"""A task that trains in milliseconds: three classes on 32x48 pictures, a network of two convolutions.

Used wherever the loop itself is on trial. The loss is PyTorch's own, so that no compiled code takes part.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.data.batches import Batch, TrainingSamples
from featherseg.data.dataset import Sample
from featherseg.data.labels import IGNORE, LabelSet
from featherseg.data.transforms import Augmentation
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.recipes.reading import parse_recipe
from featherseg.recipes.schema import Recipe
from featherseg.training.evaluation import evaluate
from featherseg.training.log import read_log
from featherseg.training.loop import TrainingResult, train
from featherseg.training.task import UpdateSize

TINY = LabelSet("tiny3", ("ground", "box", "sky"), ((128, 64, 0), (255, 0, 0), (0, 128, 255)))


class TinyScenes:
    """Pictures of one box on a ground under a sky; each a pure function of its index."""

    def __init__(self, split: str, count: int) -> None:
        self.name, self.split, self.labels, self.count = "tiny3/48x32", split, TINY, count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        random = np.random.default_rng([len(self.split), index])
        label = np.zeros((32, 48), np.uint8)
        label[: random.integers(6, 20)] = 2
        top, left = random.integers(4, 20), random.integers(0, 36)
        label[top : top + 9, left : left + 11] = 1
        image = np.array(TINY.palette, np.uint8)[label] // 2 + random.integers(0, 90, (32, 48, 3)).astype(np.uint8)
        label[random.random((32, 48)) < random.random() * 0.5] = IGNORE
        return Sample(image, label, self.key(index))

    def key(self, index: int) -> str:
        return f"{self.split}-{index}"

    def paths(self, index: int) -> None:
        return None

    def fingerprint(self) -> str:
        return f"tiny3-1-{self.split}-{self.count}"


class TinyNet(nn.Module):
    """Two convolutions with batch norm between, stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.head = nn.Conv2d(8, len(TINY), 3, padding=1)
        self.input_spec = InputSpec(output_stride=2)

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.head(self.base(images)))


class TinyTask:
    """Satisfies the loop's Task; ``fault`` may change or spoil the loss of a batch."""

    def __init__(self, recipe: Recipe, fault: Callable[[Batch, Tensor], Tensor] | None = None) -> None:
        self.recipe, self.fault = recipe, fault
        self.train, self.val = TinyScenes("train", 10), TinyScenes("val", 2)
        self.samples = TrainingSamples(
            self.train, Augmentation((24, 32), scale=recipe.augment.scale), recipe.train.seed, recipe.data.class_uniform
        )
        self.length = len(self.train)
        torch.manual_seed(recipe.train.seed)
        self.network = TinyNet()

    def weight(self, batch: Batch) -> float:
        return float((batch.targets != IGNORE).sum())

    def loss(self, network: nn.Module, batch: Batch, total: UpdateSize) -> Tensor:
        logits = network(self.network.input_spec.normalise(batch.images)).logits.float()
        full = F.interpolate(logits, size=batch.targets.shape[1:], mode="bilinear", align_corners=True)
        loss = F.cross_entropy(full, batch.targets.long(), ignore_index=IGNORE, reduction="sum") / total.weight
        return self.fault(batch, loss) if self.fault else loss

    def evaluate(self, network: nn.Module, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        figures = evaluate(network, self.val, thorough=False, progress=progress).figures()
        return {"score": figures["miou"], "iou": figures["iou"]}

    def start_lines(self) -> list[str]:
        return []

    def describe(self) -> dict[str, Any]:
        return {"format": 1, "architecture": "tiny", "num_classes": 3, "arguments": {}}

    def fingerprints(self) -> dict[str, str]:
        return {"train": self.train.fingerprint(), "val": self.val.fingerprint()}


def tiny_recipe(**sections: dict[str, Any]) -> Recipe:
    """Twelve steps of three in four batches an epoch; ``sections`` override, as in ``train={"ema": 0.9}``."""
    values: dict[str, Any] = {
        "name": "tiny",
        "model": {"name": "tiny"},
        "data": {"source": "tiny"},
        "augment": {"crop": [24, 32]},
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "schedule": {"kind": "poly"},
        "train": {"epochs": 3, "batch_size": 3, "precision": "fp32", "workers": 0, "threads": 1, "device": "cpu"},
    }
    values["train"] |= {"checkpoint_every": 3, "log_every": 1, "evaluate_every": 2}
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    if "steps" in values["train"]:
        del values["train"]["epochs"]
    return parse_recipe(values, "tiny")


def run_tiny(folder: Path, recipe: Recipe, **options: Any) -> TrainingResult:
    """Train a fresh task by ``recipe`` into ``folder``."""
    return train(TinyTask(recipe), recipe, folder, **options)


def traces(folder: Path) -> dict[str, str]:
    """What two runs must have in common to the byte: the weights files, and the log but for its speeds."""
    log = [{k: v for k, v in entry.items() if k != "images_per_second"} for entry in read_log(folder)]
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.safetensors"))
        if not path.name.startswith("checkpoint")
    }
    return files | {"log": json.dumps(log)}
