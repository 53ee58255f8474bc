"""``featherseg train``: one recipe, one folder, and what a stranger needs to go on with it; sequences are in stages.py.

Choices worth knowing:

- The folder holds the recipe as it was run, with every override in it: ``featherseg train FOLDER/recipe.yaml`` runs it
  again, and ``--resume`` goes on with it.
- Under ``torchrun`` every process trains, and the first alone prints and writes.
- A run that was stopped by a signal has saved its step; its exit code is the shell's for that signal.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherseg.cli.common import (
    NOT_SO,
    PROGRAM,
    Overrides,
    Resume,
    RunsFolder,
    clock,
    note,
    note_from_handler,
    progress_bar,
)
from featherseg.cli.run_report import RECIPE_FILE, write_run_report
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.recipes.shipped import shipped_recipes

if TYPE_CHECKING:
    from featherseg.recipes.schema import Recipe, StagedRecipe
    from featherseg.training.loop import TrainingResult
    from featherseg.training.task import Task

CARD_FILE = "card.json"
SPLIT_FILE = "split.json"


def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help=f"A YAML file, or one of: {', '.join(shipped_recipes())}.")],
    overrides: Overrides = None,
    resume: Resume = False,
    output: RunsFolder = Path("runs"),
) -> None:
    """Train a network by a recipe.

    Writes OUTPUT/NAME with weights, log, checkpoint, card and report; for a recipe of stages, OUTPUT/NAME/STAGE for
    each, and the last one's weights and a card of all in OUTPUT/NAME. Ctrl-C finishes the step, saves, and leaves with
    exit code 130.

    \b
    Example:
      featherseg train camvid_fassd_net_l2 data.source=path/to/camvid train.epochs=30
      featherseg train own_data data.source=path/to/data 'augment.crop=[240,320]' train.batch_size=4
      featherseg train runs/camvid_fassd_net_l2/recipe.yaml --resume
      featherseg train mobile_four_stages stages.coco.data.source=path/to/coco stages.coco.train.steps=1000
    """
    from featherseg.recipes.reading import read_experiment
    from featherseg.recipes.schema import StagedRecipe

    parsed = read_experiment(recipe, overrides or ())
    folder, command = output / parsed.name, [PROGRAM, *context.obj]
    if isinstance(parsed, StagedRecipe):
        from featherseg.cli.stages import run_stages

        raise typer.Exit(run_stages(parsed, folder, resume=resume, command=command))
    raise typer.Exit(run_training(parsed, folder, resume=resume, command=command))


def build_task(recipe: "Recipe") -> "Task":
    """Data, network and loss of a recipe's task."""
    if recipe.task == "classification":
        from featherseg.classification.task import ClassificationTask

        return ClassificationTask(recipe)
    if recipe.task == "detection":
        from featherseg.detection.task import DetectionTask

        return DetectionTask(recipe)
    if recipe.distillation is not None:
        from featherseg.distillation.task import DistillationTask

        return DistillationTask(recipe)
    from featherseg.training.segmentation import SegmentationTask

    return SegmentationTask(recipe)


def run_training(recipe: "Recipe", folder: Path, *, resume: bool, command: list[str], report: bool = True) -> int:
    """Train ``recipe`` in ``folder``, then write its card and, if asked for, its report. Returns the exit code."""
    with leaving_the_world():
        again = resume_command(folder)
        return train_one(recipe, folder, resume=resume, command=command, again=again, report=report)


@contextmanager
def leaving_the_world() -> Iterator[None]:
    """Leave the group of processes at the end, where the training joined one."""
    import torch

    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def resume_command(folder: Path) -> str:
    """What a person types to go on with the run in ``folder``."""
    again = f"{PROGRAM} train {shlex.quote(str(folder / RECIPE_FILE))} --resume"
    return again + ("" if folder.parent == Path("runs") else f" --output {shlex.quote(str(folder.parent))}")


def train_one(
    recipe: "Recipe",
    folder: Path,
    *,
    resume: bool,
    command: list[str],
    again: str,
    report: bool = True,
    title: str = "training",
) -> int:
    """:func:`run_training` inside a group of processes, or a sequence of trainings.

    Args:
        recipe: of this training.
        folder: of this training.
        resume: go on from its checkpoint.
        command: what was typed, for the card.
        again: what a person types to go on, should it be stopped.
        report: write one.
        title: what the progress bar calls it.
    """
    from featherseg.data.batches import BatchPlan
    from featherseg.data.headers import SpoiltFile
    from featherseg.training.checkpoint import check_start
    from featherseg.training.heads import check_heads
    from featherseg.training.loop import TrainingDiverged, total_steps
    from featherseg.training.loop import train as run

    check_start(folder, resume)
    task = build_task(recipe)
    if not resume:  # a run that was begun goes on
        check_heads(recipe, task.network)
    main_process = os.environ.get("RANK", "0") == "0"
    if main_process and not resume:
        atomic_write(folder / RECIPE_FILE, recipe_text(recipe))
        _keep_split(task, folder)
    note(f"{recipe.name}: {recipe.model.name} on {task.length:,} images of {recipe.data.source}, in {folder}")
    for line in (*task.start_lines(), *(f"note: {told}" for told in _shortfalls(task))):
        note(line)
    steps = total_steps(recipe, BatchPlan(task.length, recipe.train.batch_size, recipe.train.drop_last))
    if recipe.schedule.warmup >= steps:
        note(
            f"note: schedule.warmup={recipe.schedule.warmup} lasts as long as the {steps} updates of this run: the "
            "learning rate never reaches its value. Train for longer, or set schedule.warmup=0."
        )
    latest: dict[str, Any] = {"step": 0, "steps": None}
    try:
        with progress_bar(title) as advance:

            def updated(entry: dict[str, Any]) -> None:
                latest.update(entry)
                words = f"loss {entry['loss']:.3f}  lr {entry['lr']:.2g}  {entry['images_per_second']:.1f} img/s"
                advance(entry["step"], entry["steps"], words)

            def judging(done: int, total: int) -> None:
                advance(latest["step"], latest["steps"], f"judging on {recipe.data.val_split} {done}/{total}")

            def judged(step: int, figures: dict[str, Any]) -> None:
                if not sys.stderr.isatty():
                    note(_judged_line(step, figures, latest))

            result = run(
                task,
                recipe,
                folder,
                resume=resume,
                progress=updated,
                evaluation_progress=judging,
                judged=judged,
                stopping_soon=lambda: note_from_handler("stopping after this step; saving ..."),
            )
    except TrainingDiverged as error:
        note(f"{PROGRAM}: error: {error}")
        return NOT_SO
    except SpoiltFile as error:
        check = f"`{PROGRAM} check {shlex.quote(recipe.data.source)}` reads every file and lists all faults."
        raise FeathersegError(f"{error} {check}") from error
    if result.stopped_by is not None:  # after the last step too: it is judged when the run goes on
        note(f"stopped after step {result.step} of {result.steps}; everything is saved. Go on with: {again}")
        return 128 + result.stopped_by
    if main_process:
        # A finished run that is resumed takes no step: its card tells of the command that made the weights.
        if latest["steps"] is not None or not (folder / CARD_FILE).exists():
            _write_card(task, recipe, result, folder, command)
        if report:
            note(f"report: {write_run_report(folder)}")
    return 0


def _shortfalls(task: "Task") -> list[str]:
    """How the splits of a task differ from those that published figures are of."""
    from featherseg.data.dataset import shortfall_of

    found = [shortfall_of(getattr(task, split, None)) for split in ("train", "val")]
    return [shortfall.told for shortfall in found if shortfall]


def _keep_split(task: "Task", folder: Path) -> None:
    """Leave the split of data that has none beside the run, for others to be trained and judged on."""
    keep = getattr(task, "keep_split", None)
    path = keep(folder / SPLIT_FILE) if keep else None
    if path:
        note(f"split: {path}")


def _judged_line(step: int, figures: dict[str, Any], latest: dict[str, Any]) -> str:
    """One line of a log that nobody watches: where the run is and what it is worth by now."""
    score = figures.get("score")
    parts = [f"judged at step {step:,}" + (f" of {latest['steps']:,}" if latest["steps"] else "")]
    parts.append("no score" if score is None else f"score {score:.2f} %")
    if latest["steps"]:
        parts += [f"loss {latest['loss']:.3f}", f"{latest['images_per_second']:.1f} img/s"]
        parts.append(f"{clock(latest['seconds_left'])} left")
    return "  ".join(parts)


def recipe_text(recipe: "Recipe | StagedRecipe") -> str:
    """A recipe as YAML, every field spelt out."""
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _write_card(task: "Task", recipe: "Recipe", result: "TrainingResult", folder: Path, command: list[str]) -> None:
    from featherseg.cards import card, write_card
    from featherseg.training.log import read_log

    judged = [entry["evaluation"] for entry in read_log(folder) if "evaluation" in entry]
    # A finished run that is resumed does nothing, so that its figures are those of its log.
    figures = dict(result.figures or (judged[-1] if judged else {}))
    description = task.describe()
    protocol = figures.pop("protocol", f"{description['trained_on']}→{recipe.data.val_split}")
    fingerprints = task.fingerprints()
    made = card(
        "training",
        protocol=protocol,
        figures=figures,
        command=command,
        seeds=[recipe.train.seed],
        data_fingerprint=fingerprints[recipe.data.train_split],
        data_fingerprints=fingerprints,
        notes=" ".join(_shortfalls(task)) or None,
        model=recipe.model.name,
        steps=result.steps,
        best=result.best,
        wall_seconds=round(result.seconds, 1),
        recipe=description["recipe"],
    )
    path = write_card(folder / CARD_FILE, made)
    score = figures.get("score")
    shown = "" if score is None else f"{protocol}: {score:.2f} %; "
    typer.echo(f"{shown}{result.steps} steps in {result.seconds:.0f} s; weights and card in {path.parent}")
