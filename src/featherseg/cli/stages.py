"""``featherseg train`` of a sequence of stages: one training after the other, each in a folder of its own.

Choices worth knowing:

- Before the first step the networks of all stages, what they carry over, and where their data lies are looked at.
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
    from featherseg.recipes.schema import StagedRecipe
    from featherseg.training.stages import StageRun


def run_stages(staged: "StagedRecipe", folder: Path, *, resume: bool, command: list[str]) -> int:
    """Train what is not finished of ``staged`` in ``folder``. Returns the exit code."""
    from featherseg.training.stages import check_networks, keep_last_weights, plan_stages, train_stages

    runs = plan_stages(staged, folder, last=CARD_FILE, resume=resume)
    check_networks(runs)
    _check_data(runs)
    main_process = os.environ.get("RANK", "0") == "0"
    if main_process:
        atomic_write(folder / RECIPE_FILE, recipe_text(staged))
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
    """Look for the data of every stage that is still to be trained, without reading it."""
    from featherseg.data.sources import available_splits

    for run in runs:
        data = run.recipe.data
        if run.finished:
            continue
        if run.recipe.task == "classification":
            if not Path(data.source).is_dir():
                raise FeathersegError(
                    f"{run.title}: {data.source}: there is no such folder. "
                    f"Set stages.{run.recipe.name}.data.source=PATH."
                )
            continue
        try:
            splits = available_splits(data.source)
        except FeathersegError as error:
            raise FeathersegError(
                f"{run.title}: {error} It is set by stages.{run.recipe.name}.data.source=PATH."
            ) from None
        for split in (data.train_split, data.val_split):
            if split not in splits:
                raise FeathersegError(
                    f"{run.title}: {data.source}: no split {split!r}. There are: {', '.join(splits)}."
                )


def _write_card(staged: "StagedRecipe", runs: "list[StageRun]", folder: Path, command: list[str]) -> None:
    from featherseg.cards import card, read_card, write_card

    cards = [read_card(run.folder / CARD_FILE) for run in runs]
    last = cards[-1]
    kept = ("protocol", "figures", "model", "steps", "wall_seconds", "seeds", "data_fingerprints", "recipe")
    stages: list[dict[str, Any]] = [
        {"name": run.recipe.name, "carry": run.carry} | {key: one.get(key) for key in kept}
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
