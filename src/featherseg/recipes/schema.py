"""The typed form of a recipe: one YAML file per experiment, read strictly.

Unknown keys and wrong types are refused with the place and the nearest valid name; nothing is inherited from another
file. ``key=value`` overrides use dotted names and YAML values: ``train.epochs=3 augment.scale=[0.5,1.5]``.

An experiment is one training (:class:`Recipe`) or a sequence of them (:class:`StagedRecipe`), each stage a recipe of
its own that says what it carries over from the stage before. The sections on networks, data and augmentation are in
sections.py.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, TypeAdapter, model_validator

from featherseg.recipes.distillation_schema import Distillation, check_references
from featherseg.recipes.sections import Augment, Data, Model, Name, Section, Seed, Share

Carry = Literal["everything", "all_but_logits", "backbone"]


class Loss(Section):
    """The criterion; ``threshold`` is a loss for ``bootstrapped``, a probability for ``ohem``.

    ``jaccard_weight`` is that of the soft Jaccard loss of the network's output beside the one of ``kind``.
    ``auxiliary_weight``, ``boundary`` and ``boundary_weight`` are for networks with such training-only heads (DRBANet,
    Eq. 4); others have nothing they could weigh.
    """

    kind: Literal["cross_entropy", "ohem", "bootstrapped"] = "cross_entropy"
    threshold: PositiveFloat | None = None
    min_kept: PositiveInt | None = None
    class_weights: tuple[PositiveFloat, ...] | None = None
    label_smoothing: Share = 0.0
    jaccard_weight: Annotated[float, Field(ge=0.0)] = 0.0
    auxiliary_weight: Annotated[float, Field(ge=0.0)] = 0.2
    boundary: Literal["corrected", "published", "none"] = "corrected"
    boundary_weight: Annotated[float, Field(ge=0.0)] = 0.1

    @model_validator(mode="after")
    def _threshold_of_kind(self) -> "Loss":
        if self.kind == "ohem" and self.threshold is not None and self.threshold > 1:
            raise ValueError(f"loss.threshold={self.threshold:g}: for ohem it is a probability, at most 1")
        return self


class Detection(Section):
    """How a detector learns: which anchors are to find which boxes, and the loss over them.

    ``auto`` is the loss that belongs to the network's scores: ``sampled`` (binary cross-entropy and smooth L1 over
    ``samples`` anchors, at most ``positive_share`` of them positive) for independent ones, ``multibox`` (SSD's, with
    ``negatives`` for one positive) for those with a background. ``focal``, with ``alpha`` and ``gamma``, takes all
    anchors. Thresholds and ``beta`` (where smooth L1 turns linear) that are not given are the network's and the loss's
    own. The rest is told in detection/targets.py and detection/samples.py.
    """

    loss: Literal["auto", "sampled", "focal", "multibox"] = "auto"
    positive_iou: Share | None = None
    negative_iou: Share | None = None
    low_quality: bool = True
    ignore_share: Share = 0.5
    samples: PositiveInt = 256
    positive_share: Share = 0.5
    negatives: PositiveFloat = 3.0
    alpha: Share = 0.25
    gamma: Annotated[float, Field(ge=0.0)] = 2.0
    beta: PositiveFloat | None = None
    box_weight: Annotated[float, Field(ge=0.0)] = 1.0
    min_visible: Share = 0.4
    min_side: Annotated[float, Field(ge=0.0)] = 2.0


class Optimizer(Section):
    """SGD with momentum, Adam with coupled L2 (gradient + weight_decay x weight) or AdamW, with weight-decay groups."""

    kind: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: PositiveFloat = 0.01
    momentum: Share = 0.9
    nesterov: bool = False
    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    decay: Literal["all", "kernels", "kernels_but_depthwise"] = "all"
    encoder_lr_scale: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _nesterov_moves(self) -> "Optimizer":
        if self.nesterov and self.momentum == 0:
            raise ValueError("optimizer.nesterov needs a momentum; set optimizer.momentum=0.9, say")
        return self


class Schedule(Section):
    """Learning rate over updates. ``total`` defaults to the run's length; ``first`` is t at the first update.

    ``slow_start`` = n holds the first n updates at ``slow_start_factor``, while t counts on from the first update.
    ``milestones`` are updates; with ``run_epochs`` = n they are epochs of a run of n epochs, and a run of another
    length passes them at the same shares of it.
    """

    kind: Literal["constant", "poly", "cosine", "step", "exponential"] = "poly"
    power: PositiveFloat = 0.9
    warmup: Annotated[int, Field(ge=0)] = 0
    warmup_start: Share = 0.0
    slow_start: Annotated[int, Field(ge=0)] = 0
    slow_start_factor: Share = 0.1
    total: PositiveInt | None = None
    first: Literal[0, 1] = 0
    final: Share = 0.0
    milestones: tuple[PositiveInt, ...] = ()
    run_epochs: PositiveInt | None = None
    gamma: PositiveFloat = 0.1

    @model_validator(mode="after")
    def _one_beginning(self) -> "Schedule":
        if self.warmup and self.slow_start:
            raise ValueError("give schedule.warmup or schedule.slow_start, not both")
        return self

    @model_validator(mode="after")
    def _milestones_within(self) -> "Schedule":
        late = [one for one in self.milestones if self.run_epochs is not None and one >= self.run_epochs]
        if late:
            raise ValueError(f"schedule.milestones: {late[0]} is never passed in schedule.run_epochs={self.run_epochs}")
        return self


class Train(Section):
    """The loop. Exactly one of ``epochs`` and ``steps``; ``batch_size`` is of one update over all processes."""

    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 8
    accumulation: PositiveInt = 1
    drop_last: bool = False
    seed: Seed = 0
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    channels_last: bool = True
    clip_norm: PositiveFloat | None = None
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    workers: Annotated[int, Field(ge=0)] = 1
    threads: PositiveInt | None = None
    device: str = "auto"
    sync_bn: bool = False
    freeze_bn: bool = False
    checkpoint_every: PositiveInt = 200
    evaluate_every: PositiveInt | None = None
    log_every: PositiveInt = 10
    tensorboard: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> "Train":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of train.epochs and train.steps")
        if self.accumulation > self.batch_size:
            raise ValueError(
                f"train.accumulation={self.accumulation} cuts a batch of {self.batch_size} into empty parts; "
                f"use at most train.accumulation={self.batch_size}"
            )
        return self


class Start(Section):
    """What the weights start from: an encoder, or a network's weights and the part of them that is carried over.

    Each is a file or the name of weights that come with the package. An encoder may be a foreign checkpoint.
    """

    encoder: str | None = None
    weights: str | None = None
    carry: Carry = "everything"

    @model_validator(mode="after")
    def _one_source(self) -> "Start":
        if self.encoder and self.weights:
            raise ValueError("give start.encoder or start.weights, not both: whole weights hold an encoder already")
        if self.carry != "everything" and not self.weights:
            raise ValueError(f"start.carry={self.carry} says what is taken from start.weights; give those")
        return self


_OF_CLASSIFICATION = {
    "data": ("test_count", "drop_classes", "background", "split_file"),
    "augment": ("rand_augment", "erase", "mixup", "cutmix", "mix", "view", "view_size", "view_share"),
}
_OF_SEGMENTATION = {
    "data": ("size", "count", "class_uniform"),
    "augment": ("flip_last", "scale_step", "log_scale", "padding", "padding_value"),
}


_NOT_OF_DETECTION = {
    "data": ("class_uniform",),
    "augment": ("flip_last", "scale_step", "padding"),
    "loss": tuple(Loss.model_fields),
}


def _default(section: type[Section], name: str) -> Any:
    return section.model_fields[name].default


class Recipe(Section):
    """One training."""

    name: Name
    task: Literal["segmentation", "classification", "detection"] = "segmentation"
    source: str = ""
    model: Model
    data: Data
    augment: Augment
    loss: Loss = Loss()
    detection: Detection = Detection()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train
    start: Start = Start()
    distillation: Distillation | None = None

    @model_validator(mode="after")
    def _loss_of_task(self) -> "Recipe":
        foreign = ("kind", "class_weights", "jaccard_weight")
        idle = [name for name in foreign if getattr(self.loss, name) != _default(Loss, name)]
        if self.task == "classification" and idle:
            raise ValueError(
                f"loss.{idle[0]}: a classification has the plain cross-entropy loss; of the loss section it takes "
                "label_smoothing alone"
            )
        return self

    @model_validator(mode="after")
    def _students_segment(self) -> "Recipe":
        if self.distillation is not None and self.task != "segmentation":
            raise ValueError(f"distillation: is of a segmentation, and this is a {self.task}; leave it out")
        return self

    @model_validator(mode="after")
    def _settings_of_detection(self) -> "Recipe":
        if self.task != "detection":
            idle = [
                name for name in Detection.model_fields if getattr(self.detection, name) != _default(Detection, name)
            ]
            idle = [f"detection.{name}" for name in idle]
            idle += ["data.target"] if self.data.target != _default(Data, "target") else []
            if idle:
                raise ValueError(f"{idle[0]}: is of a detection, and this is a {self.task}; leave it out")
            return self
        for section, names in _NOT_OF_DETECTION.items():
            given = getattr(self, section)
            idle = [name for name in names if getattr(given, name) != _default(type(given), name)]
            if idle:
                mend = "write it in the section detection" if section == "loss" else "leave it out"
                raise ValueError(f"{section}.{idle[0]}: a detection has no use for it; {mend}")
        return self

    @model_validator(mode="after")
    def _settings_of_task(self) -> "Recipe":
        """Refuse what the task has no use for, lest somebody believe that it was done."""
        classifying = self.task == "classification"
        foreign = _OF_SEGMENTATION if classifying else _OF_CLASSIFICATION
        for section, names in foreign.items():
            given, default = getattr(self, section), type(getattr(self, section)).model_fields
            idle = [name for name in names if getattr(given, name) != default[name].default]
            if idle:
                other = "segmentation" if classifying else "classification"
                raise ValueError(f"{section}.{idle[0]}: is of a {other}, and this is a {self.task}; leave it out")
        return self


def section_defaults(name: str) -> dict[str, Any]:
    """The JSON-ready defaults of the settings of a recipe's section, as far as they have any."""
    field = Recipe.model_fields.get(name)
    settings = getattr(field.annotation, "model_fields", {}) if field else {}
    return {
        key: TypeAdapter(Any).dump_python(setting.get_default(call_default_factory=True), mode="json")
        for key, setting in settings.items()
        if not setting.is_required()
    }


class Stage(Recipe):
    """One training of a sequence. All but the first start from the stage before and say what they ``carry`` over.

    ``carry_from`` names another earlier stage to start from, ``taught_by`` one whose weights are the teacher.
    """

    carry: Carry | None = None
    carry_from: Name | None = None
    taught_by: Name | None = None

    @model_validator(mode="after")
    def _name_in_overrides(self) -> "Stage":
        if "." in self.name:
            raise ValueError(f"the stage's name {self.name!r} has a dot, which overrides use; write it without")
        return self


class StagedRecipe(Section):
    """A sequence of trainings; a stage without a ``model`` of its own trains this one."""

    name: Name
    source: str = ""
    model: Model | None = None
    stages: tuple[Stage, ...]

    @model_validator(mode="before")
    @classmethod
    def _share_model(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("stages"), list):
            return values
        shared = {key: values[key] for key in ("model", "source") if values.get(key)}
        return values | {"stages": [shared | stage if isinstance(stage, dict) else stage for stage in values["stages"]]}

    @model_validator(mode="after")
    def _chained(self) -> "StagedRecipe":
        if not self.stages:
            raise ValueError("stages: give a list of stages, it is empty")
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are called {name!r}; give each a name of its own")
        if self.stages[0].carry:
            raise ValueError(
                f"stage {names[0]}: is the first, with no stage before it to carry from; "
                f"leave stages.{names[0]}.carry out and use its start"
            )
        for before, stage in zip(self.stages, self.stages[1:], strict=False):
            if stage.carry is None:
                raise ValueError(
                    f"stage {stage.name}: say what it takes over from {before.name}: "
                    "carry: everything, all_but_logits or backbone"
                )
            if stage.start != Start():
                given = [key for key in Start.model_fields if getattr(stage.start, key) != getattr(Start(), key)]
                named = ", ".join(f"stages.{stage.name}.start.{key}" for key in given)
                source = stage.carry_from or before.name
                raise ValueError(f"stage {stage.name}: starts from {source} by its carry; leave {named} out")
        check_references(self.stages)
        return self
