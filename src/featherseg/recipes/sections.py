"""The sections of a recipe on networks, data and augmentation; the others and the recipe itself are in schema.py."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Size = tuple[PositiveInt, PositiveInt]


class Section(BaseModel):
    """Base of all sections: closed and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class Model(Section):
    """The network: a registered name and its own arguments."""

    name: str
    arguments: dict[str, Any] = {}


class Data(Section):
    """Where images come from. ``size`` (H, W) and ``count`` are of procedural sources alone.

    Classified images in folders without splits (Caltech) are cut into splits: ``test_count`` images by ``seed``, then
    ``val_count`` of the others, of the classes that ``drop_classes`` and ``background`` leave; or all as ``split_file``
    says, which a training writes into its folder.

    ``target`` is what a detector learns to find: "Car" (vans are ignored) or "vehicle" (cars, vans and trucks).
    """

    source: str
    train_split: str = "train"
    val_split: str = "val"
    size: Size | None = None
    count: PositiveInt | None = None
    val_count: PositiveInt | None = None
    test_count: PositiveInt | None = None
    drop_classes: tuple[str, ...] = ()
    background: bool = True
    split_file: str | None = None
    target: Literal["Car", "vehicle"] = "Car"
    seed: Seed = 0
    cache: bool = True
    class_uniform: Share = 0.0

    @model_validator(mode="after")
    def _split_is_decided_once(self) -> "Data":
        idle = [name for name in ("test_count", "val_count", "drop_classes") if getattr(self, name)]
        if self.split_file and (idle or not self.background):
            raise ValueError(f"data.split_file decides the split; leave data.{idle[0] if idle else 'background'} out")
        return self


class Augment(Section):
    """Random flip, resize, crop and colours, in this order (see data/transforms.py).

    ``scale_step`` draws the factor from the range's ends and what lies between them at that distance; ``flip_last``
    flips the crop instead of the image; ``padding_value`` is the grey level of what is added to small images.

    Of classifications alone (see classification/samples.py and views.py): ``rand_augment`` (operations, magnitude of
    10), ``erase`` (probability), ``mixup`` and ``cutmix`` (alpha; 0 is off) on a share ``mix`` of the updates; and the
    view that is judged and used: ``view`` at ``view_size`` (the crop's, if not given), where ``centre`` cuts the middle
    out, ``view_share`` of the resized short side.
    """

    crop: Size
    flip: Share = 0.5
    flip_last: bool = False
    scale: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)
    scale_step: PositiveFloat | None = None
    log_scale: bool = False
    padding: Literal["both_sides", "bottom_right"] = "both_sides"
    padding_value: Annotated[int, Field(ge=0, le=255)] = 0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    rand_augment: tuple[PositiveInt, Annotated[float, Field(ge=0.0, le=10.0)]] | None = None
    erase: Share = 0.0
    mixup: Annotated[float, Field(ge=0.0)] = 0.0
    cutmix: Annotated[float, Field(ge=0.0)] = 0.0
    mix: Share = 1.0
    view: Literal["whole", "centre"] = "whole"
    view_size: Size | None = None
    view_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.875

    @model_validator(mode="after")
    def _rising(self) -> "Augment":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"augment.scale={list(self.scale)} falls; write the smaller factor first")
        if self.scale_step is not None:
            if self.log_scale:
                raise ValueError("augment.scale_step has no use with augment.log_scale=true; leave one of them out")
            steps = (self.scale[1] - self.scale[0]) / self.scale_step
            if math.isinf(steps) or abs(steps - round(steps)) > 1e-6:
                raise ValueError(
                    f"augment.scale_step={self.scale_step:g} does not lead from {self.scale[0]:g} to {self.scale[1]:g} "
                    "in whole steps; change it or augment.scale"
                )
        return self
