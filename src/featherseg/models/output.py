"""What every network returns, and what it expects of its input.

Design choices:
- logits stay at the network's own stride; enlarging them, arg-max and normalisation live here, once.
- the padding rule belongs to the spec: images smaller than ``min_size`` are padded with zeros (after
  normalisation: the mean colour) at the right and the bottom, and the padding is cut off the enlarged logits again.
"""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class SegmentationOutput(NamedTuple):
    """Logits at the network's stride, and what the training-only heads give (None in ``eval()``).

    ``logits`` float ``[B, K, h, w]``; ``auxiliary`` further logits, each ``[B, K, h', w']``; ``boundary`` float
    ``[B, 1, h, w]``.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...] | None = None
    boundary: Tensor | None = None


@dataclass(frozen=True)
class InputSpec:
    """How pixels become a network's input and its logits become a label map; travels with the weights.

    Attributes:
        color_order: order of the input channels.
        mean, std: of pixels on the scale 0..1, in ``color_order``.
        min_size: images are padded to at least this height and width.
        output_stride: image pixels for one logit pixel, as a rule (an odd size may round either way).
        align_corners: how logits are enlarged bilinearly.
    """

    color_order: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    min_size: int = 1
    output_stride: int = 4
    align_corners: bool = True

    def __post_init__(self) -> None:
        if self.color_order not in ("RGB", "BGR"):
            raise ValueError(f"color_order is {self.color_order!r}; it must be RGB or BGR")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(isinstance(v, int | float) and isfinite(v) for v in values):
                raise ValueError(f"{name} is {values!r}; it must be three numbers")
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std!r}; it must be above zero")
        for name in ("min_size", "output_stride"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
        if not isinstance(self.align_corners, bool):
            raise ValueError(f"align_corners is {self.align_corners!r}; it must be true or false")

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB ``[B, H, W, 3]`` into float32 ``[B, 3, H, W]`` as the network wants it."""
        pixels = images.permute(0, 3, 1, 2)
        if self.color_order == "BGR":
            pixels = pixels.flip(1)
        scale = torch.tensor(self.std, device=images.device).mul_(255.0).reciprocal_()
        shift = -torch.tensor(self.mean, device=images.device) / torch.tensor(self.std, device=images.device)
        return torch.addcmul(shift.view(1, 3, 1, 1), pixels.float(), scale.view(1, 3, 1, 1))

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The size a network works on for an image of ``height`` x ``width``."""
        return max(height, self.min_size), max(width, self.min_size)

    def pad(self, images: Tensor) -> Tensor:
        """Pad ``[B, 3, H, W]`` by the padding rule; the same tensor where there is nothing to pad."""
        height, width = images.shape[-2:]
        to_height, to_width = self.padded_size(height, width)
        if (to_height, to_width) == (height, width):
            return images
        return F.pad(images, (0, to_width - width, 0, to_height - height))

    def enlarge(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Bilinear logits ``[B, K, H, W]`` for an image of ``size`` (H, W), the padding cut off."""
        padded = self.padded_size(*size)
        full = F.interpolate(logits, size=padded, mode="bilinear", align_corners=self.align_corners)
        return full[..., : size[0], : size[1]]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "InputSpec":
        """Read what :meth:`to_dict` wrote; KeyError, TypeError or ValueError where a field is lacking or wrong."""
        values = dict(values)
        values["mean"], values["std"] = tuple(values["mean"]), tuple(values["std"])
        return cls(**values)
