"""A sequence of three tiny tasks, for whatever trials sequences of trainings."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_task import TinyTask, tiny_recipe, traces

from featherseg.models.carry import carry_over
from featherseg.models.weights import read_weights
from featherseg.recipes.schema import Recipe, StagedRecipe
from featherseg.training.loop import train
from featherseg.training.stages import StageRun, keep_last_weights, plan_stages, train_stages

DONE = "done.txt"
NAMES = ("first", "second", "third")


class StartedTask(TinyTask):
    """The tiny task, started as its recipe says."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        if recipe.start.weights:
            tensors = read_weights(recipe.start.weights).tensors
            carry_over(self.network, tensors, recipe.start.carry, where=recipe.start.weights)


def stage(name: str, carry: str | None = None, **sections: dict[str, Any]) -> dict[str, Any]:
    settings = {"steps": 4, "ema": 0.9, "checkpoint_every": 2, "evaluate_every": 1} | sections.pop("train", {})
    return tiny_recipe(**sections, train=settings).model_dump() | {"name": name, "carry": carry}


def sequence(**changes: Any) -> StagedRecipe:
    """Two threads in the first stage, which the others must not inherit; another seed and optimiser in each."""
    first, second, third = NAMES
    stages = [
        stage(first, train={"threads": 2}),
        stage(second, "backbone", train={"seed": 1, "threads": None}, optimizer={"kind": "adam", "lr": 0.01}),
        stage(third, "everything", train={"seed": 2, "threads": None}, schedule={"slow_start": 2}),
    ]
    return StagedRecipe.model_validate({"name": "sequence", "stages": stages} | changes)


def run_sequence(
    staged: StagedRecipe, folder: Path, *, resume: bool = False, progress: Callable[[str, int], None] | None = None
) -> list[str]:
    """Train a sequence of tiny tasks; ``progress`` is called with a stage's name and its step.

    Returns the names of the stages that took a step.
    """
    stepped: list[str] = []

    def train_one(one: StageRun) -> int:
        def stepping(entry: dict[str, Any]) -> None:
            stepped.append(one.recipe.name)
            if progress:
                progress(one.recipe.name, entry["step"])

        result = train(StartedTask(one.recipe), one.recipe, one.folder, resume=one.resume, progress=stepping)
        if result.stopped_by is not None:
            return 128 + result.stopped_by
        (one.folder / DONE).touch()
        return 0

    runs = plan_stages(staged, folder, last=DONE, resume=resume)
    if train_stages(runs, train_one) == 0:
        keep_last_weights(runs, folder)
    return list(dict.fromkeys(stepped))


def sequence_traces(folder: Path) -> dict[str, str]:
    """What two sequences must have in common to the byte, by the path in their folders."""
    found = {"weights.safetensors": hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()}
    for name in NAMES:
        found |= {f"{name}/{what}": trace for what, trace in traces(folder / name).items()}
    return found
