"""The typed form of an architecture search: space, teacher, latency, the two phases, and how their weights are trained.

An experiment of its own beside trainings: ``featherseg search`` reads it, ``featherseg train`` what it ends with.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from featherseg.recipes.sections import Augment, Data, Name, Section, Seed, Share, Size

FULL_WIDTH = 12
NotNegative = Annotated[float, Field(ge=0.0)]


class Space(Section):
    """The supernet's size (search/space.py): ``base`` x 8 channels at 1/8; widths in twelfths of the full one.

    ``stem`` and ``head`` are the searched network's widths there.
    """

    layers: PositiveInt = 16
    base: PositiveInt = 12
    widths: tuple[PositiveInt, ...] = (4, 6, 8, 10, 12)
    stem: PositiveInt = 8
    head: PositiveInt = 8


class SearchTeacher(Section):
    """Who teaches the search.

    ``co_search``: a second architecture of full widths, searched on the same cells, as FasterSeg does. ``fixed``:
    trained ``weights``, a file or a shipped name, whose divergence (KL) from the sampled network is added to the
    architecture step with ``weight`` (Yang et al. 2021, Eq. 7). ``none``: nobody.
    """

    kind: Literal["co_search", "fixed", "none"] = "co_search"
    weights: str | None = None
    weight: NotNegative = 1.0

    @model_validator(mode="after")
    def _weights_of_fixed(self) -> "SearchTeacher":
        if (self.kind == "fixed") != (self.weights is not None):
            raise ValueError("teacher.weights goes with teacher.kind=fixed, and the other way round")
        return self


class Latency(Section):
    """What the network may take, where it is measured, and how strongly the search is pushed.

    ``budget`` is in milliseconds for one image of ``size``; ``keep_fps`` instead is FasterSeg's rule on frames a
    second. After every epoch ``weight`` is halved where the decoded networks are too fast, and doubled where they are
    too slow. ``table`` names a table instead of measuring one; one of another machine needs ``foreign``. ``shares``
    are those of alpha, beta and the ratios in the regulariser. ``seconds`` are spent on each entry, about.
    """

    budget: PositiveFloat | None = None
    keep_fps: tuple[PositiveFloat, PositiveFloat] | None = None
    size: Size
    runtime: str = "pytorch"
    device: str = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: PositiveInt | None = None
    table: str | None = None
    foreign: bool = False
    weight: NotNegative = 0.01
    shares: tuple[NotNegative, NotNegative, NotNegative] = (1.0, 497.0, 2.0)
    seconds: PositiveFloat = 0.3

    @model_validator(mode="after")
    def _one_rule(self) -> "Latency":
        if self.budget is not None and self.keep_fps is not None:
            raise ValueError("give latency.budget or latency.keep_fps, not both")
        if self.keep_fps is not None and self.keep_fps[0] > self.keep_fps[1]:
            raise ValueError(f"latency.keep_fps={list(self.keep_fps)} falls; write the smaller number first")
        if min(self.size) < 64 or any(side % 8 for side in self.size):
            raise ValueError(f"latency.size={list(self.size)}: sides are multiples of 8 and at least 64")
        if not sum(self.shares):
            raise ValueError("latency.shares are all 0; set latency.weight=0 to leave latency out")
        return self


class Phase(Section):
    """A part of the search. ``iterations`` of an epoch default to as many as half of the images fill."""

    epochs: Annotated[int, Field(ge=0)]
    iterations: PositiveInt | None = None
    batch_size: PositiveInt = 2
    crop: Size | None = None
    lr: PositiveFloat = 0.01
    lr_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.978


class ArchitectureOptimizer(Section):
    """Adam on the architecture parameters."""

    lr: PositiveFloat = 3e-4
    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (0.5, 0.999)
    weight_decay: NotNegative = 0.0


class Found(Section):
    """What the recipe that trains the found network says of its own; ``augment`` is the search's if left out."""

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 8
    augment: Augment | None = None


class SearchTrain(Section):
    """The loop and SGD on the weights.

    ``recalibration`` batches set batch norms before the supernet is judged, on images resized by ``judged_scale``: the
    middle of what the crops were scaled by.
    """

    seed: Seed = 0
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    clip_norm: PositiveFloat | None = 5.0
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    workers: Annotated[int, Field(ge=0)] = 1
    threads: PositiveInt | None = None
    device: str = "auto"
    recalibration: PositiveInt = 20
    judged_scale: PositiveFloat = 1.0
    checkpoint_every: PositiveInt = 100
    log_every: PositiveInt = 10


class SearchRecipe(Section):
    """One search. ``behaviour`` is told in search/supernet.py, latency.py and decoding.py."""

    name: Name
    source: str = ""
    behaviour: Literal["corrected", "official"] = "corrected"
    space: Space = Space()
    teacher: SearchTeacher = SearchTeacher()
    latency: Latency
    data: Data
    augment: Augment
    pretrain: Phase
    search: Phase
    architecture: ArchitectureOptimizer = ArchitectureOptimizer()
    train: SearchTrain = SearchTrain()
    found: Found = Found()

    @model_validator(mode="after")
    def _crops_fit(self) -> "SearchRecipe":
        for name in ("pretrain", "search"):
            phase: Phase = getattr(self, name)
            height, width = phase.crop or self.augment.crop
            if height % 32 or width % 32 or min(height, width) < 64:
                place = f"{name}.crop" if phase.crop else "augment.crop"
                raise ValueError(f"{place}=[{height},{width}]: sides are multiples of 32 and at least 64")
            if phase.batch_size * (height // 64) * (width // 64) < 2:
                raise ValueError(
                    f"{name}.batch_size=1 with a crop of {height}x{width} leaves batch norm a single value at 1/64; "
                    f"set {name}.batch_size=2"
                )
        return self

    @model_validator(mode="after")
    def _something_is_searched(self) -> "SearchRecipe":
        if self.teacher.kind == "co_search" and FULL_WIDTH not in self.space.widths:
            raise ValueError(
                f"space.widths={list(self.space.widths)} lack {FULL_WIDTH}, the width of the teacher of "
                "teacher.kind=co_search; add it, or take another kind"
            )
        if not self.search.epochs:
            raise ValueError("search.epochs=0 searches nothing; give it at least 1")
        if self.behaviour == "official" and self.latency.budget is not None:
            raise ValueError(
                "latency.budget is kept by the corrected behaviour; the official one has latency.keep_fps=[155,175]"
            )
        return self
