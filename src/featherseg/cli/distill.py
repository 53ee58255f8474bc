"""``featherseg distill``: a training, or a sequence of them, whose students look to teachers.

Choices worth knowing:

- What runs is ``featherseg train``'s: the same folder, the same resuming, and a recipe with a ``distillation`` section
  is a student whichever command trains it. This one takes the teacher, and sees to it that there is one.
- ``--teacher`` is of all students whose teacher is no stage before them: of teacher, tutor and student it teaches the
  tutor.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from featherseg.cli.common import PROGRAM, Overrides, Resume, RunsFolder
from featherseg.cli.train import run_training
from featherseg.errors import FeathersegError
from featherseg.recipes.shipped import shipped_recipes

SHIPPED = [name for name in shipped_recipes() if "distil" in name]


def distill(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help=f"A YAML file, or a shipped one: {', '.join(SHIPPED)}, or any other.")],
    overrides: Overrides = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="NAME_OR_FILE", help="The teacher's weights, of any segmentation network here."),
    ] = None,
    resume: Resume = False,
    output: RunsFolder = Path("runs"),
) -> None:
    """Train a network that learns from another one's predictions and features besides the labels.

    The recipe's section distillation says what is compared; a recipe without one compares predictions (KL). Writes what
    `featherseg train` writes; for a sequence of stages (teacher, tutor, student) OUTPUT/NAME/STAGE for each.

    \b
    Example:
      featherseg distill camvid_fassd_net_l2 --teacher fassd_net.camvid data.source=path/to/camvid
      featherseg distill camvid_distil_fasterseg --teacher runs/teacher/weights.safetensors data.source=path/to/camvid
      featherseg distill runs/camvid_distil_fasterseg/recipe.yaml --resume
    """
    from featherseg.recipes.reading import read_experiment
    from featherseg.recipes.schema import StagedRecipe

    parsed = read_experiment(recipe, overrides or ())
    taught = _taught(parsed, recipe, has_teacher=teacher is not None)
    if teacher is not None:
        given = [f"{section}.teacher={json.dumps(teacher)}" for section in taught]
        parsed = read_experiment(recipe, [*(overrides or ()), *given])
    folder, command = output / parsed.name, [PROGRAM, *context.obj]
    if isinstance(parsed, StagedRecipe):
        from featherseg.cli.stages import run_stages

        raise typer.Exit(run_stages(parsed, folder, resume=resume, command=command))
    raise typer.Exit(run_training(parsed, folder, resume=resume, command=command))


def _taught(parsed: object, name: str, *, has_teacher: bool) -> list[str]:
    """The sections that ``--teacher`` sets: of the recipe, or of its stages that no other stage teaches.

    Raises:
        FeathersegError: the recipe teaches nobody.
    """
    from featherseg.recipes.schema import Recipe, StagedRecipe

    if isinstance(parsed, StagedRecipe):
        if all(stage.distillation is None for stage in parsed.stages):
            raise FeathersegError(
                f"{name}: no stage has a section distillation: nobody is taught. Train it with `{PROGRAM} train`."
            )
        taught = [
            f"stages.{stage.name}.distillation"
            for stage in parsed.stages
            if stage.distillation is not None and stage.taught_by is None
        ]
        if has_teacher and not taught:
            raise FeathersegError(
                f"{name}: every stage is taught by another one, and --teacher teaches none. Leave it out."
            )
        return taught
    assert isinstance(parsed, Recipe)
    if parsed.task != "segmentation":
        raise FeathersegError(f"{name}: a {parsed.task}; only segmentation networks are taught by a teacher here.")
    if not has_teacher and (parsed.distillation is None or parsed.distillation.teacher is None):
        raise FeathersegError(
            f"{name}: has no teacher. Give --teacher with its weights: a .safetensors file, or a shipped one's name."
        )
    return ["distillation"]
