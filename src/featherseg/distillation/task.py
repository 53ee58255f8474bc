"""A student as a task of the training loop: a segmentation whose loss looks to a teacher as well.

The student's data, network and judgement are those of any segmentation; its weights, once trained, know of the teacher
by name alone.

Design choices:
- each comparison is a mean over an image, and these are averaged over the images of an update, so that parts and
  processes add up to the one large batch;
- the teacher runs before the student, whose activations are then the only ones in memory;
- the virtual path of Yang et al. 2021 is a comparison, not a part of the student: its map at 1/8 learns from the
  tutor's at 1/4, and nothing of it is left, or has to be left out, afterwards.
"""

from typing import Any

import torch
from torch import Tensor, nn

from featherseg.data.batches import Batch
from featherseg.distillation.cache import RepeatedAugmentations, TeacherCache, stored
from featherseg.distillation.criterion import distillation_loss, kept_of, taught_from
from featherseg.distillation.openvino_teacher import in_openvino
from featherseg.distillation.paths import resolve_pairs, watched
from featherseg.distillation.teacher import Taught, Teacher, check_classes, load_teacher
from featherseg.errors import FeathersegError
from featherseg.models.output import SegmentationOutput
from featherseg.recipes.distillation_schema import Distillation, PathPair
from featherseg.recipes.schema import Recipe
from featherseg.training.segmentation import SegmentationTask, criterion
from featherseg.training.task import UpdateSize


class DistillationTask(SegmentationTask):
    """A segmentation recipe with a ``distillation`` section.

    Args:
        recipe: of the student.
        teacher: instead of the one that the recipe names.

    Raises:
        FeathersegError: data, student, teacher, paths or cache do not fit together.
    """

    def __init__(self, recipe: Recipe, teacher: Teacher | None = None) -> None:
        super().__init__(recipe)
        self.settings = recipe.distillation or Distillation()
        self.teacher = teacher or load_teacher(_named_teacher(recipe))
        if self.settings.runtime == "openvino":
            self.teacher = in_openvino(self.teacher, recipe.train.precision)
        check_classes(self.teacher.classes, None, self.train.labels.classes, self.teacher.name)
        self.pairs: tuple[PathPair, ...] = ()
        if self.settings.affinity.weight:
            self.pairs = resolve_pairs(self.network, self.teacher.network, self.settings.affinity.pairs)
        self._student_paths = list(dict.fromkeys(pair.student for pair in self.pairs))
        self._teacher_paths = list(dict.fromkeys(pair.teacher for pair in self.pairs))
        self.cache = self._open_cache()

    def _open_cache(self) -> TeacherCache | None:
        settings = self.settings.cache
        if settings is None:
            return None
        affinity = self.settings.affinity
        about = {
            "name": self.teacher.name,
            "sha256": self.teacher.digest,
            "input_spec": self.teacher.spec.to_dict(),
            "precision": self.recipe.train.precision,
            "runtime": self.settings.runtime,
            "resolution": settings.resolution,
            "maps": self._teacher_paths,
            "pooled_to": affinity.grid if self._teacher_paths and affinity.form == "pooled" else None,
        }
        cache = TeacherCache(settings.folder, about)
        self.samples = RepeatedAugmentations(  # type: ignore[assignment]
            self.samples, self.length, settings.epochs, self.recipe.train.seed
        )
        return cache

    def start_lines(self) -> list[str]:
        lines = [*super().start_lines(), f"taught by {self.teacher.name} ({type(self.teacher.network).__name__})"]
        lines += [f"affinity of {one.student} with {one.teacher}, weight {one.weight:g}" for one in self.pairs]
        if self.cache is not None and self.settings.cache is not None:
            image = torch.zeros(1, *self.recipe.augment.crop, 3, dtype=torch.uint8)
            lines.append(self.cache.check_space(self.settings.cache.epochs * self.length, stored(self._ask(image))))
        return lines

    def loss(self, network: nn.Module, batch: Batch, total: UpdateSize) -> Tensor:
        taught = self.taught(batch.images)
        if taught.logits.shape[1] != len(self.train.labels):
            check_classes(None, taught.logits.shape[1], self.train.labels.classes, self.teacher.name)
        with watched(self.network, self._student_paths, "the student") as maps:
            output: SegmentationOutput = network(self.spec.normalise(batch.images))
        weight = self.weight(batch)
        loss = self.settings.supervised * criterion(
            output, batch.targets, self.recipe.loss, self.spec, weight=weight, total=total
        )
        specs = self.spec, self.teacher.spec
        each = distillation_loss(output.logits, maps, taught, batch.targets, self.settings, self.pairs, specs)
        return loss + each.sum() / total.images

    def taught(self, images: Tensor) -> Taught:
        """What the teacher says of uint8 ``[B, H, W, 3]``, from the cache where all of them are there."""
        if self.cache is None:
            return taught_from(self._ask(images))
        found = self.cache.read(images)
        if found is None:
            found = stored(self._ask(images))
            self.cache.write(images, found)
        return taught_from({name: tensor.to(images.device) for name, tensor in found.items()})

    def _ask(self, images: Tensor) -> dict[str, Tensor]:
        taught = self.teacher(images, self._teacher_paths)
        return kept_of(taught, self.settings, self.teacher.spec, (images.shape[1], images.shape[2]))

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"taught_by": self.teacher.describe()}


def _named_teacher(recipe: Recipe) -> str:
    if recipe.distillation is None or recipe.distillation.teacher is None:
        raise FeathersegError(
            f"{recipe.name}: has no teacher yet. Give its weights: featherseg distill --teacher NAME_OR_FILE, or "
            "distillation.teacher=NAME_OR_FILE."
        )
    return recipe.distillation.teacher
