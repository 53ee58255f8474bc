"""Before the first step of a sequence: whether every stage that is taught can be."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from featherseg.distillation.paths import resolve_pairs
from featherseg.distillation.teacher import check_classes, read_teacher_metadata
from featherseg.errors import FeathersegError
from featherseg.models.registry import create_model
from featherseg.recipes.distillation_schema import Distillation
from featherseg.training.segmentation import open_splits
from featherseg.training.stages import StageRun
from featherseg.training.start import fresh_network


def check_teachers(runs: Sequence[StageRun]) -> None:
    """Look at the teachers of all stages that are still to be trained; nothing is loaded.

    Raises:
        FeathersegError: a teacher is missing, knows other classes, or lacks a path that is to be compared.
    """
    by_name = {run.recipe.name: run for run in runs}
    for run in runs:
        settings = run.recipe.distillation
        if settings is None or run.finished:
            continue
        try:
            with torch.device("meta"):
                student = fresh_network(run.recipe)
                if run.taught_by is not None:
                    teacher = fresh_network(by_name[run.taught_by].recipe)
                else:
                    teacher = _teacher(run, settings)
            if settings.affinity.weight:
                resolve_pairs(student, teacher, settings.affinity.pairs)
        except FeathersegError as error:
            raise FeathersegError(f"{run.title}: {error}") from None


def _teacher(run: StageRun, settings: Distillation) -> nn.Module:
    """The teacher without weights, from a file's metadata."""
    if settings.teacher is None:
        raise FeathersegError(
            "has no teacher yet. Give its weights: featherseg distill --teacher NAME_OR_FILE, or "
            f"stages.{run.recipe.name}.distillation.teacher=NAME_OR_FILE."
        )
    metadata = read_teacher_metadata(settings.teacher)
    classes: Any = metadata.get("classes")
    check_classes(classes, metadata["num_classes"], open_splits(run.recipe)[0].labels.classes, settings.teacher)
    return create_model(metadata["architecture"], metadata["num_classes"], **metadata["arguments"])
