"""Boxes as deltas of anchors and back, and a detector's raw output as detections.

Design choices:
- what is not among the best candidates is never decoded;
- boxes are cut off at the image, without its padding, and those left with a side under a pixel are dropped before
  suppression, so that they cannot suppress;
- with independent scores (``sigmoid``) an anchor may be found as two classes; suppression is within a class.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featherseg.detection.nms import nms
from featherseg.models.detection_output import BoxCode, DetectorSpec

LEAST_SIDE = 1.0


@dataclass(frozen=True, eq=False)
class Found:
    """Detections in one image, by falling score: boxes float32 ``[N, 4]`` as x1, y1, x2, y2 in its pixels, scores
    float32 ``[N]`` in 0..1, labels int64 ``[N]``."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sides / 2, sides


def encode(boxes: Tensor, anchors: Tensor, code: BoxCode) -> Tensor:
    """Deltas ``[..., 4]`` that turn ``anchors`` into ``boxes``, both ``[..., 4]`` as x1, y1, x2, y2.

    Ren et al. 2015, Eq. 2, times the code's weights. Sides below 1/1000 pixel count as that.
    """
    centres, sides = _centres(boxes)
    around, reference = _centres(anchors)
    shift, stretch = (centres - around) / reference, (sides.clamp(min=1e-3) / reference).log()
    return torch.cat([shift, stretch], -1) * shift.new_tensor(code.weights)


def decode(deltas: Tensor, anchors: Tensor, code: BoxCode) -> Tensor:
    """Boxes ``[..., 4]`` of ``deltas``: the inverse of :func:`encode`, no side larger than the code's factor allows."""
    around, reference = _centres(anchors)
    deltas = deltas / deltas.new_tensor(code.weights)
    centres = around + deltas[..., :2] * reference
    half = reference * deltas[..., 2:].clamp(max=float(np.log(code.largest_factor))).exp() / 2
    return torch.cat([centres - half, centres + half], -1)


def _candidates(scores: Tensor, spec: DetectorSpec) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of anchor and class: their scores, anchors and labels."""
    if spec.scoring == "softmax":
        of_class = scores.softmax(-1)[:, 1:]
        best, anchors = of_class.topk(min(spec.candidates, len(of_class)), 0)
        labels = torch.arange(of_class.shape[1], device=scores.device).expand_as(anchors)
        best, anchors, labels = best.flatten(), anchors.flatten(), labels.flatten()
    else:
        classes = scores.shape[1]
        best, pairs = scores.flatten().topk(min(spec.candidates, scores.numel()))
        best, anchors, labels = best.sigmoid(), pairs // classes, pairs % classes
    kept = ~(best < spec.score_threshold)  # a NaN stays, to be told of
    return best[kept], anchors[kept], labels[kept]


def read_output(
    scores: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    spec: DetectorSpec,
    size: tuple[int, int],
) -> Found:
    """The detections in one image.

    Args:
        scores, deltas: of the network, ``[N, S]`` and ``[N, 4]``.
        anchors: ``[N, 4]``.
        spec: of the network.
        size: (H, W) of the image.

    Raises:
        FeathersegError: a score or box is not finite.
    """
    best, places, labels = _candidates(scores.float(), spec)
    boxes = decode(deltas.float()[places], anchors[places], spec.code)
    along_y, along_x = spec.scale(*size)
    boxes = boxes / boxes.new_tensor([along_x, along_y, along_x, along_y])
    largest = boxes.new_tensor([size[1], size[0], size[1], size[0]])
    boxes = torch.minimum(boxes.clamp(min=0), largest)
    found = [tensor.cpu().numpy() for tensor in (boxes, best, labels)]
    sides = found[0][:, 2:] - found[0][:, :2]
    large = ~(sides < LEAST_SIDE).any(1)
    corners, values, classes = (array[large] for array in found)
    kept = nms(corners, values, classes, iou=spec.nms_iou, limit=spec.keep)
    return Found(corners[kept], values[kept], classes[kept])
