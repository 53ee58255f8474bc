"""A sequence of trainings: what each stage's recipe is, which stages are done, and what the next one starts from.

Design choices:
- a stage is an ordinary training by an ordinary recipe in a folder of its own, FOLDER/STAGE; its recipe says in
  ``start`` that it begins with the last weights of the stage before, so that it could be run again alone;
- the folders hold all there is to know: a stage is finished when the file is there that its training writes last, and
  one that has a checkpoint goes on from it. A sequence that was killed anywhere therefore ends with the bytes of one
  that was not, as its trainings do;
- what can be wrong with recipes and networks is looked for before the first step, and with data and devices by the
  command: the fourth stage's mistake should not show on the fourth day.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.models.carry import carry_over
from featherseg.models.carry_differences import computed_otherwise
from featherseg.models.weights import describe_network
from featherseg.recipes.schema import Recipe, Stage, StagedRecipe
from featherseg.training.checkpoint import check_start, has_checkpoint, load_checkpoint
from featherseg.training.heads import check_heads
from featherseg.training.loop import WEIGHTS
from featherseg.training.resume import check_same_recipe
from featherseg.training.start import fresh_network


@dataclass(frozen=True)
class StageRun:
    """One stage of a sequence and how far it is.

    Attributes:
        title: for a person: "stage 2 of 4: coco".
        carry: what it takes from the stage it starts from; None of the first.
        recipe: of its training alone.
        folder: of its training.
        resume: whether it has a checkpoint to go on from.
        finished: whether nothing is left to do.
        carry_from, taught_by: names of the stages that it starts from and that its teacher comes from, if any.
    """

    title: str
    carry: str | None
    recipe: Recipe
    folder: Path
    resume: bool
    finished: bool
    carry_from: str | None = None
    taught_by: str | None = None


def stage_recipe(stage: Stage, before: Path | None, teacher: Path | None = None) -> Recipe:
    """The recipe of a stage's training alone, which starts from the run in the folder ``before``.

    ``teacher`` is the folder of the run that teaches it.
    """
    values = stage.model_dump(exclude={"carry", "carry_from", "taught_by"})
    if before is not None:
        values["start"] = {"weights": str(before / WEIGHTS), "carry": stage.carry}
    if teacher is not None:
        values["distillation"] |= {"teacher": str(teacher / WEIGHTS)}
    return Recipe.model_validate(values)


def plan_stages(staged: StagedRecipe, folder: Path, *, last: str, resume: bool) -> list[StageRun]:
    """All stages of a sequence, in order, with what was done of them.

    Args:
        staged: the sequence.
        folder: of the sequence.
        last: name of the file that the training of a stage writes last.
        resume: go on with what is there; otherwise nothing may be.

    Raises:
        FeathersegError: a stage was begun and ``resume`` is not set; or it is, and there is nothing to go on from, a
            stage's recipe has changed since, or a stage was begun whose predecessor is not finished any more.
    """
    runs: list[StageRun] = []
    by_name: dict[str | None, StageRun] = {}
    for number, stage in enumerate(staged.stages, start=1):
        own = folder / stage.name
        before = by_name.get(stage.carry_from) or (runs[-1] if runs else None)
        teacher = by_name.get(stage.taught_by)
        if not resume or before is None:
            check_start(own, resume)
        recipe = stage_recipe(stage, before and before.folder, teacher and teacher.folder)
        begun = resume and has_checkpoint(own)
        for needed, what in ((before, "which it starts from"), (teacher, "which teaches it")):
            if begun and needed and not needed.finished:
                raise FeathersegError(
                    f"{own}: was begun, but {needed.recipe.name}, {what}, is not finished in {needed.folder}. "
                    f"Put that folder back, or remove {own} to train it again after {needed.recipe.name}."
                )
        if begun:
            check_same_recipe(load_checkpoint(own).recipe, recipe.model_dump(mode="json"), own)
        title = f"stage {number} of {len(staged.stages)}: {stage.name}"
        finished = begun and (own / last).is_file()
        source = before.recipe.name if before else None
        runs.append(StageRun(title, stage.carry, recipe, own, begun, finished, source, stage.taught_by))
        by_name[stage.name] = runs[-1]
    return runs


def check_networks(runs: Sequence[StageRun]) -> list[str]:
    """Build every stage's network without memory and try what it carries over.

    Returns:
        A line for each thing that a stage computes otherwise, with what it carries over, than the stage before.

    Raises:
        FeathersegError: a network cannot be built, a recipe weighs a head that its network does not have, or what shall
            be carried over is not in the network before, or computes nothing sensible in the other.
    """
    networks: dict[str | None, torch.nn.Module] = {}
    described: dict[str | None, dict[str, Any]] = {}
    lines: list[str] = []
    for run in runs:
        before, name, carry = networks.get(run.carry_from), run.recipe.name, run.recipe.start.carry
        try:
            with torch.device("meta"):
                network = fresh_network(run.recipe)
            model = run.recipe.model
            if not run.resume and not run.finished:
                check_heads(run.recipe, network)
            # As many classes for all: their number is nothing that a layer computes with.
            described[name] = describe_network(network, model.name, 1, dict(model.arguments))
            if before is not None:
                where = run.recipe.start.weights or ""
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # PyTorch's, that loading to the meta device does nothing
                    carry_over(network, before.state_dict(), carry, where=where)
                found = computed_otherwise(described[run.carry_from], described[name], carry, where=where)
                lines += [f"{run.title}: {carry} from {run.carry_from}: {line}" for line in found]
        except FeathersegError as error:
            raise FeathersegError(f"{run.title}: {error}") from None
        networks[name] = network
    return lines


def train_stages(runs: Sequence[StageRun], train: Callable[[StageRun], int]) -> int:
    """Train what is not finished, stage by stage.

    Args:
        runs: from :func:`plan_stages`.
        train: trains one stage and returns an exit code; 0 where it came to its end and wrote its card.

    Returns:
        The exit code of the stage that did not come to its end, or 0.
    """
    threads = torch.get_num_threads()
    for run in runs:
        if run.finished:
            continue
        try:
            code = train(run)
        finally:
            # The next stage begins as in a process of its own: a recipe may set threads, and sums depend on them.
            torch.set_num_threads(threads)
        if code:
            return code
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # the main process alone wrote the weights that all read next
    return 0


def keep_last_weights(runs: Sequence[StageRun], folder: Path) -> Path:
    """Copy the last stage's weights to ``folder``: what the whole sequence made."""
    return atomic_write(folder / WEIGHTS, (runs[-1].folder / WEIGHTS).read_bytes())
