"""A FasterSeg student and its tutor of a few channels on street scenes, for whatever trials distillation."""

from pathlib import Path
from typing import Any

import torch

from featherseg.distillation.task import DistillationTask
from featherseg.distillation.teacher import Teacher
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, save_weights
from featherseg.recipes.reading import parse_recipe
from featherseg.recipes.schema import Recipe
from featherseg.training.loop import TrainingResult, train

CROP = (32, 64)
CLASSES = 11
ARCHITECTURE = {
    "stem": [4, 6, 8],
    "head_width": 4,
    "branches": [
        {
            "scale": 32,
            "layers": [
                {"operator": "conv", "in": 8, "out": 8},
                {"operator": "conv", "in": 8, "out": 10, "stride": 2},
                {"operator": "conv", "in": 10, "out": 12, "stride": 2},
            ],
        },
        {
            "scale": 16,
            "layers": [
                {"operator": "conv", "in": 8, "out": 8},
                {"operator": "conv", "in": 8, "out": 12, "stride": 2},
            ],
        },
    ],
}
STUDENT = {"name": "fasterseg", "arguments": {"architecture": ARCHITECTURE}}
TUTOR = {"name": "fasterseg_tutor", "arguments": {"architecture": ARCHITECTURE, "quarter_path": [6, 8]}}
AFFINITY = {"weight": 1.0, "form": "pooled", "grid": [4, 8]}


def make(model: dict[str, Any], seed: int = 0, classes: int = CLASSES) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_model(model["name"], classes, **model["arguments"])


def save(path: Path, model: dict[str, Any], seed: int = 0, **about: Any) -> Path:
    """Weights of a fresh network, as those of street scenes are saved."""
    from featherseg.data.labels import CAMVID11

    network = make(model, seed, about.pop("num_classes", CLASSES))
    count = about.pop("count", None) or CLASSES
    described = describe_network(network, model["name"], count, model["arguments"])
    return save_weights(path, network.state_dict(), described | {"classes": list(CAMVID11.classes)} | about)


def student_recipe(**sections: Any) -> Recipe:
    """Four steps of two images in two batches an epoch; ``sections`` override, as in ``train={"ema": 0.9}``."""
    values: dict[str, Any] = {
        "name": "student",
        "model": STUDENT,
        "data": {"source": "streets", "size": list(CROP), "count": 4, "val_count": 1},
        "augment": {"crop": list(CROP), "scale": [0.8, 1.25]},
        "optimizer": {"kind": "sgd", "lr": 0.05},
        "train": {"steps": 4, "batch_size": 2, "precision": "fp32", "workers": 0, "device": "cpu"},
        "distillation": {"affinity": AFFINITY},
    }
    values["train"] |= {"threads": 1, "checkpoint_every": 1, "log_every": 1}
    for section, changes in sections.items():
        values[section] = (values.get(section) or {}) | changes if changes is not None else None
    return parse_recipe(values, "student")


def run_student(folder: Path, recipe: Recipe, teacher: Teacher | None = None, **options: Any) -> TrainingResult:
    """Train a fresh student by ``recipe`` into ``folder``."""
    return train(DistillationTask(recipe, teacher), recipe, folder, **options)
