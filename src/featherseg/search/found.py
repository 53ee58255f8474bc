"""What a search leaves behind: the architecture's JSON, and the recipe that trains it."""

import json
from pathlib import Path
from typing import Any

import yaml

from featherseg.files import atomic_write
from featherseg.models.fasterseg_architecture import Architecture
from featherseg.recipes.reading import parse_recipe
from featherseg.recipes.schema import Recipe
from featherseg.recipes.search_reading import search_without_folders
from featherseg.recipes.search_schema import SearchRecipe
from featherseg.search.outcome import Outcome

ARCHITECTURE, TEACHER, TRAINING, RESULT = "architecture.json", "teacher.json", "found.yaml", "result.json"
DECAY = 0.0081
"""Of the rate over the whole training, as in FasterSeg's 600 epochs of 0.992."""


def training_recipe(recipe: SearchRecipe, architecture: Architecture) -> Recipe:
    """The training of a network, by FasterSeg's published settings but for what the search's section ``found`` says.

    Raises:
        FeathersegError: the search's data or augmentation are none of a segmentation's training.
    """
    augment = recipe.found.augment or recipe.augment
    values: dict[str, Any] = {
        "name": f"{recipe.name}_found",
        "source": f"the architecture found by the search {recipe.name}",
        "model": {"name": "fasterseg", "arguments": {"architecture": architecture.to_dict()}},
        "data": recipe.data.model_dump(mode="json", exclude_defaults=True),
        "augment": augment.model_dump(mode="json", exclude_defaults=True),
        "loss": {"kind": "ohem", "threshold": 0.7, "auxiliary_weight": 0.2},
        "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"kind": "exponential", "gamma": DECAY},
        "train": {
            "epochs": recipe.found.epochs,
            "batch_size": recipe.found.batch_size,
            "drop_last": True,
            "seed": recipe.train.seed,
            "precision": recipe.train.precision,
            "workers": recipe.train.workers,
            "threads": recipe.train.threads,
            "device": recipe.train.device,
        },
    }
    return parse_recipe(values, f"{TRAINING} of {recipe.name}")


def write_found(folder: Path, recipe: SearchRecipe, outcome: Outcome, figures: dict[str, Any]) -> dict[str, Path]:
    """Write the architecture, the teacher's where there is one, the recipe and ``figures`` into ``folder``."""

    def as_json(content: dict[str, Any]) -> str:
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    about = {
        "name": f"{recipe.name}_found",
        "predicted_ms": figures["predicted_ms"],
        "measured_ms": figures["measured_ms"],
    }
    written = {"architecture": atomic_write(folder / ARCHITECTURE, as_json(about | outcome.architecture.to_dict()))}
    if outcome.teacher is not None:
        content = {"name": f"{recipe.name}_teacher"} | outcome.teacher.to_dict()
        written["teacher"] = atomic_write(folder / TEACHER, as_json(content))
    training = training_recipe(recipe, outcome.architecture).model_dump(mode="json", exclude_defaults=True)
    text = f"# Found by a search; {recipe.name}: {figures['predicted_ms']} ms by its table.\n"
    text += f"# Command: featherseg train {folder / TRAINING}\n"
    written["training"] = atomic_write(
        folder / TRAINING, text + yaml.safe_dump(training, sort_keys=False, allow_unicode=True)
    )
    written["result"] = atomic_write(folder / RESULT, as_json(figures | {"recipe": search_without_folders(recipe)}))
    return written
