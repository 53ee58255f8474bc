"""The typed form of a recipe's ``distillation`` section: who teaches, what is compared, what is kept on disk.

A segmentation recipe with this section trains its network as a student. The losses are told in losses/distillation.py
and losses/affinity.py; the sum of those with a weight is added to the recipe's own criterion.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from featherseg.recipes.sections import Section, Size

if TYPE_CHECKING:
    from featherseg.recipes.schema import Stage

Weight = Annotated[float, Field(ge=0.0)]


class Divergence(Section):
    """KL between the soft-max of teacher and student.

    ``at`` is where: at the student's logits, or at the labels' size, both logits enlarged. ``reduction`` is a mean over
    labelled pixels, or the published one over all pixels and classes.
    """

    weight: Weight = 1.0
    temperature: PositiveFloat = 1.0
    reduction: Literal["labelled", "published"] = "labelled"
    at: Literal["logits", "labels"] = "logits"


class ChannelWise(Section):
    """Channel-wise distillation of the logits (Shu et al. 2021); the paper's weight is 3."""

    weight: Weight = 0.0
    temperature: PositiveFloat = 4.0


class PathPair(Section):
    """Two maps whose affinities are compared: names of the networks' paths, or of modules in them."""

    student: str
    teacher: str
    weight: Weight = 1.0


class Affinity(Section):
    """The feature-affinity loss over pairs of paths; without ``pairs``, those that the networks' names suggest.

    ``exact`` takes all pairs of pixels, ``resize`` says how maps of different sizes are made to agree; ``pooled``
    averages both maps to at most ``grid`` (h, w) first. ``centre`` takes each channel's mean off.
    """

    weight: Weight = 0.0
    form: Literal["exact", "pooled"] = "exact"
    resize: Literal["pixels", "raster", "features"] = "pixels"
    grid: Size = (32, 64)
    centre: bool = False
    pairs: tuple[PathPair, ...] = ()

    @model_validator(mode="after")
    def _nothing_idle(self) -> "Affinity":
        name = "resize" if self.form == "pooled" else "grid"
        if getattr(self, name) != type(self).model_fields[name].default:
            raise ValueError(
                f"distillation.affinity.{name} has no use with distillation.affinity.form={self.form}; leave it out"
            )
        return self


class Cache(Section):
    """Keep the teacher's outputs on disk, in half precision.

    ``epochs`` bounds them: augmentations repeat after so many. ``quarter`` keeps logits at a quarter of the image at
    most, ``own`` at the teacher's own resolution.
    """

    folder: str
    epochs: PositiveInt = 4
    resolution: Literal["own", "quarter"] = "own"


class Distillation(Section):
    """Who teaches and by which losses. ``supervised`` weighs the recipe's own criterion.

    ``runtime`` runs the teacher: on CPUs OpenVINO is several times as fast, and rounds otherwise.
    """

    teacher: str | None = None
    runtime: Literal["pytorch", "openvino"] = "pytorch"
    supervised: Weight = 1.0
    kl: Divergence = Divergence()
    channel_wise: ChannelWise = ChannelWise()
    affinity: Affinity = Affinity()
    cache: Cache | None = None

    @model_validator(mode="after")
    def _something_is_compared(self) -> "Distillation":
        if not any((self.kl.weight, self.channel_wise.weight, self.affinity.weight)):
            raise ValueError(
                "distillation: compares nothing. Give distillation.kl.weight, distillation.channel_wise.weight or "
                "distillation.affinity.weight a value above 0"
            )
        return self


def check_references(stages: "Sequence[Stage]") -> None:
    """Stages may start from, and be taught by, any stage before them.

    Raises:
        ValueError: a name is not that of an earlier stage, or what is said of it has no use.
    """
    for number, stage in enumerate(stages):
        earlier = [one.name for one in stages[:number]]
        for field in ("carry_from", "taught_by"):
            name = getattr(stage, field)
            if name is not None and name not in earlier:
                known = f"the stages before it are {', '.join(earlier)}" if earlier else "there is none before it"
                raise ValueError(f"stage {stage.name}: {field}={name} names no stage before it; {known}")
        if stage.taught_by is None:
            continue
        if stage.distillation is None:
            raise ValueError(f"stage {stage.name}: is taught_by {stage.taught_by}; give it a section distillation")
        if stage.distillation.teacher is not None:
            raise ValueError(
                f"stage {stage.name}: is taught_by {stage.taught_by}; leave "
                f"stages.{stage.name}.distillation.teacher out"
            )
