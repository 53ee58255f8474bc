"""``featherseg train`` of a sequence of stages: one training after the other, each in a folder of its own.

Choices worth knowing:

- Before the first step the networks of all stages and what they carry over are tried, their data is opened, and their
  devices are looked for.
- The folder of the sequence keeps what a person takes away: the last stage's weights, the recipe with every override in
  it, and a card that names every stage with its own figures, data and recipe.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from featherseg.cli.common import note
from featherseg.cli.run_report import RECIPE_FILE
from featherseg.cli.train import CARD_FILE, leaving_the_world, recipe_text, resume_command, train_one
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write

if TYPE_CHECKING:
    from featherseg.recipes.schema import Recipe, StagedRecipe
    from featherseg.training.stages import StageRun


def run_stages(staged: "StagedRecipe", folder: Path, *, resume: bool, command: list[str]) -> int:
    """Train what is not finished of ``staged`` in ``folder``. Returns the exit code."""
    from featherseg.training.stages import check_networks, keep_last_weights, plan_stages, train_stages

    runs = plan_stages(staged, folder, last=CARD_FILE, resume=resume)
    differences = check_networks(runs)
    _check_data(runs)
    if any(run.recipe.distillation is not None for run in runs):
        from featherseg.distillation.check import check_teachers

        check_teachers(runs)
    main_process = os.environ.get("RANK", "0") == "0"
    if main_process:
        atomic_write(folder / RECIPE_FILE, recipe_text(staged))
    for line in differences:
        note(f"note: {line}")
    for run in runs:
        if run.finished:
            note(f"{run.title}: finished, in {run.folder}")

    def train(run: "StageRun") -> int:
        note(run.title)
        again = resume_command(folder)
        return train_one(run.recipe, run.folder, resume=run.resume, command=command, again=again, title=run.title)

    with leaving_the_world():
        code = train_stages(runs, train)
    # A finished sequence that is resumed keeps the card of the command that made its weights.
    if code == 0 and main_process and not (all(run.finished for run in runs) and (folder / CARD_FILE).exists()):
        weights = keep_last_weights(runs, folder)
        _write_card(staged, runs, folder, command)
        typer.echo(f"{len(runs)} stages; the last weights are {weights}, and a card of all is beside them")
    return code


def _check_data(runs: "list[StageRun]") -> None:
    """Open the data of every stage that is still to be trained, and look for its device; no image is decoded."""
    from featherseg.training.distributed import training_device

    classes_of: dict[str | None, int | None] = {}
    for run in runs:
        before, teacher = classes_of.get(run.carry_from), classes_of.get(run.taught_by)
        try:
            classes = None if run.finished else _number_of_classes(run.recipe)
            if not run.finished:
                training_device(run.recipe.train.device)
        except FeathersegError as error:
            own = f"stages.{run.recipe.name}"
            raise FeathersegError(
                f"{run.title}: {error} Its data is set by {own}.data.source=PATH, and so are its other fields."
            ) from None
        if run.carry == "everything" and None not in (before, classes) and before != classes:
            raise FeathersegError(
                f"{run.title}: has {classes} classes and {run.carry_from} has {before}, so that the logits cannot be "
                f"carried over. Set stages.{run.recipe.name}.carry=all_but_logits."
            )
        if None not in (teacher, classes) and teacher != classes:
            raise FeathersegError(
                f"{run.title}: has {classes} classes and its teacher {run.taught_by} has {teacher}. Train both on data "
                "with the same classes."
            )
        classes_of[run.recipe.name] = classes


def _number_of_classes(recipe: "Recipe") -> int:
    if recipe.task == "classification":
        from featherseg.classification.task import open_folders

        if not Path(recipe.data.source).is_dir():
            raise FeathersegError(f"{recipe.data.source}: there is no such folder.")
        return len(open_folders(recipe)[0].classes)
    if recipe.task == "detection":
        from featherseg.detection.task import open_splits as open_boxes

        return len(open_boxes(recipe)[0].classes)
    from featherseg.training.segmentation import open_splits

    return len(open_splits(recipe)[0].labels)


def _write_card(staged: "StagedRecipe", runs: "list[StageRun]", folder: Path, command: list[str]) -> None:
    from featherseg.cards import card, read_card, write_card

    cards = [read_card(run.folder / CARD_FILE) for run in runs]
    last = cards[-1]
    kept = ("protocol", "figures", "model", "steps", "wall_seconds", "seeds", "data_fingerprints", "recipe")
    stages: list[dict[str, Any]] = [
        {"name": run.recipe.name, "carry": run.carry, "carry_from": run.carry_from, "taught_by": run.taught_by}
        | {key: one.get(key) for key in kept}
        for run, one in zip(runs, cards, strict=True)
    ]
    made = card(
        "training",
        protocol=last["protocol"],
        figures=last["figures"],
        command=command,
        seeds=sorted({seed for one in cards for seed in one["seeds"]}),
        data_fingerprint=last["data_fingerprint"],
        model=last["model"],
        steps=sum(one["steps"] for one in cards),
        wall_seconds=round(sum(one["wall_seconds"] for one in cards), 1),
        recipe={"name": staged.name, "source": staged.source},
        stages=stages,
    )
    write_card(folder / CARD_FILE, made)
