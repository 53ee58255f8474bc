"""Training steps of one network on one batch, written in four ways, and the time each takes.

- ``fp32``: float32, channels first, ``F.interpolate`` of the logits to full size, ``F.cross_entropy``: the plain loop.
- ``channels_last``: the same in the channels_last memory format.
- ``bf16``: the same under bfloat16 autocast besides.
- ``featherseg``: `featherseg.training.loop.train` itself, with its optimiser, EMA, log, fused loss and PReLU.

The first three run the network's PReLU as PyTorch has it.

All four get the same uint8 images and labels, normalise them within the step, and take SGD steps with momentum.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from featherseg.data.labels import CAMVID11, IGNORE
from featherseg.data.streets import Streets
from featherseg.models import layers
from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model
from featherseg.recipes.schema import Recipe
from featherseg.training.loop import train
from featherseg.training.segmentation import SegmentationTask

LOOPS = ("fp32", "channels_last", "bf16", "featherseg")


def scenes(size: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Procedural street scenes: images uint8 ``[N, H, W, 3]`` and labels uint8 ``[N, H, W]``."""
    source = Streets("train", count, size=size, seed=0)
    samples = [source.read(index) for index in range(count)]
    return np.stack([sample.image for sample in samples]), np.stack([sample.label for sample in samples])


def recipe(model: str, batch: int, steps: int, threads: int) -> Recipe:
    """What `featherseg.training.loop.train` is asked to do: as the CamVid recipes, on one batch."""
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "model": {"name": model},
            "data": {"source": "streets"},
            "augment": {"crop": [360, 480]},
            "optimizer": {"kind": "sgd", "lr": 0.001, "weight_decay": 5e-4},
            "train": {
                "steps": steps,
                "batch_size": batch,
                "precision": "bf16",
                "channels_last": True,
                "ema": 0.998,
                "workers": 0,
                "threads": threads,
                "device": "cpu",
                "checkpoint_every": steps + 1,
            },
        }
    )


class Fixed(Dataset):
    """Hands out the same samples again and again, as they are: what is measured is the step, not the input."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __getitem__(self, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, str]:
        _, position = place
        return self.images[position], self.labels[position], str(position)


class FixedTask(SegmentationTask):
    """Segmentation as the loop knows it, on fixed samples and without judging."""

    def __init__(self, recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> None:
        self.recipe = recipe
        self.samples = Fixed(images, labels)
        self.length = len(images)
        torch.manual_seed(0)
        self.network = create_model(recipe.model.name, len(CAMVID11))
        self.spec: InputSpec = self.network.input_spec  # type: ignore[assignment]

    def evaluate(self, network: nn.Module, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        return {"score": 0.0}

    def describe(self) -> dict[str, Any]:
        return {}


def images_per_second(loop: str, model: str, images: np.ndarray, labels: np.ndarray, steps: int, warm_up: int) -> float:
    """The batch's images divided by the median time of a step, after ``warm_up`` steps that are not counted."""
    run = _featherseg_seconds if loop == "featherseg" else _plain_seconds
    seconds = run(loop, model, images, labels, steps + warm_up)
    return len(images) / statistics.median(seconds[warm_up:])


def _featherseg_seconds(_: str, model: str, images: np.ndarray, labels: np.ndarray, steps: int) -> list[float]:
    """Seconds from the end of one step to the end of the next, so that all that the loop does is in them."""
    settings = recipe(model, len(images), steps + 1, torch.get_num_threads())
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        task = FixedTask(settings, images, labels)

        def note(_: dict[str, Any]) -> None:
            ends.append(time.perf_counter())

        train(task, settings, Path(folder), progress=note)
    return [end - begin for begin, end in pairwise(ends)]


def _plain_seconds(loop: str, model: str, images: np.ndarray, labels: np.ndarray, steps: int) -> list[float]:
    torch.manual_seed(0)
    network = create_model(model, len(CAMVID11)).train()
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    memory = torch.contiguous_format if loop == "fp32" else torch.channels_last
    network = network.to(memory_format=memory)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
    pixels, truth = torch.from_numpy(images), torch.from_numpy(labels)
    seconds = []
    with mock.patch.object(layers, "prelu", F.prelu):
        for _ in range(steps):
            began = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            batch = spec.normalise(pixels).contiguous(memory_format=memory)
            with torch.autocast("cpu", torch.bfloat16, enabled=loop == "bf16"):
                logits = network(batch).logits
                full = F.interpolate(logits, truth.shape[1:], mode="bilinear", align_corners=spec.align_corners)
                loss = F.cross_entropy(full, truth.long(), ignore_index=IGNORE)
            loss.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - began)
    return seconds
