"""What every detector returns and how its numbers become boxes: the counterpart of models/output.py.

Design choices:
- a detector returns raw scores and box deltas of its anchors, flattened over its maps, and gives the anchors
  themselves by the size of the input; matching, decoding and suppression live in the room ``detection``;
- how an image becomes the input is one of two rules: padded at the right and the bottom to a multiple, with zeros
  after normalisation, or resized to a fixed size without keeping the aspect.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from featherseg.models.output import InputSpec


class DetectionOutput(NamedTuple):
    """Of N anchors: ``scores`` float ``[B, N, S]``, logits, and ``deltas`` float ``[B, N, 4]`` (see BoxCode).

    S is the number of classes for ``sigmoid`` scoring and one more, the background first, for ``softmax``.
    """

    scores: Tensor
    deltas: Tensor


@dataclass(frozen=True)
class BoxCode:
    """Weights of the deltas (dx / w_a, dy / h_a, log w / w_a, log h / h_a), and the largest factor of a side."""

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    largest_factor: float = 1000 / 16


@dataclass(frozen=True)
class DetectorSpec:
    """How images enter a detector, how its anchors meet boxes, and how its output is read.

    Attributes:
        multiple: height and width are padded to a multiple of this.
        size: (H, W) that images are resized to; None pads instead.
        scoring: ``sigmoid``, a score a class, or ``softmax``, with the background as class 0.
        code: of the boxes.
        positive_iou, negative_iou: an anchor is positive from the first on, negative below the second.
        score_threshold: lower scores are dropped.
        candidates: the best-scored pairs of anchor and class that are decoded; of each class for ``softmax``.
        nms_iou: boxes of a class that overlap a better one by more are dropped.
        keep: boxes of an image at most.
    """

    multiple: int = 32
    size: tuple[int, int] | None = None
    scoring: Literal["sigmoid", "softmax"] = "sigmoid"
    code: BoxCode = BoxCode()
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    score_threshold: float = 0.0
    candidates: int = 1000
    nms_iou: float = 0.5
    keep: int = 100

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The (H, W) of the input for an image of ``height`` x ``width``.

        >>> DetectorSpec().input_size(375, 1242)
        (384, 1248)
        """
        if self.size is not None:
            return self.size
        return -(-height // self.multiple) * self.multiple, -(-width // self.multiple) * self.multiple

    def scale(self, height: int, width: int) -> tuple[float, float]:
        """Input pixels for one pixel of an image of ``height`` x ``width``: (along y, along x)."""
        return (1.0, 1.0) if self.size is None else (self.size[0] / height, self.size[1] / width)

    def pad(self, images: Tensor) -> Tensor:
        """Pad normalised images ``[B, 3, H, W]`` to the input's size; a fixed size asks for no padding."""
        height, width = images.shape[-2:]
        if self.size is not None or (height, width) == self.input_size(height, width):
            return images
        to_height, to_width = self.input_size(height, width)
        return F.pad(images, (0, to_width - width, 0, to_height - height))


class Detector(Protocol):
    """What the rest of the house asks of a detector besides being an ``nn.Module``."""

    input_spec: InputSpec
    detector_spec: DetectorSpec

    def __call__(self, images: Tensor) -> DetectionOutput: ...

    def anchors(self, height: int, width: int) -> Tensor:
        """Float32 ``[N, 4]`` (x1, y1, x2, y2) in pixels of an input of that size, in the order of the output."""
        ...


def flat_maps(maps: list[Tensor], values: int) -> Tensor:
    """Maps ``[B, A * values, h, w]`` as ``[B, N, values]``: map by map, row by row, cell by cell, anchor by anchor."""
    flat = []
    for x in maps:
        batch, channels, height, width = x.shape
        x = x.view(batch, channels // values, values, height, width).permute(0, 3, 4, 1, 2)
        flat.append(x.reshape(batch, -1, values))
    return torch.cat(flat, 1)
