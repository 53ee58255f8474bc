"""Which anchors are to become which boxes: matching, ignored regions, and the sample that a loss is taken over.

Design choices:
- an anchor belongs to the box that it overlaps most. It is positive from ``positive_iou`` on, negative below
  ``negative_iou``, and neither in between;
- with ``low_quality`` the anchors that overlap a box as much as any does are positive for that box, however little
  that is; where two boxes claim an anchor, the one that it overlaps more has it;
- an anchor that lies in an ignored region with more than ``ignore_share`` of its own area is not negative;
- the sample is half positive at most and filled up with negatives. Which ones, random priorities say, one for each
  anchor; they are a pure function of (seed, step, image).
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featherseg.randomness import generator

NEGATIVE, NEITHER = -1, -2
IGNORED, PADDING = -1, -2
"""Labels of rows of a target that are no box: an ignored region, and nothing at all."""


@dataclass(frozen=True)
class Matching:
    """How anchors meet boxes; see the module's text."""

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    low_quality: bool = True
    ignore_share: float = 0.5


def shared_areas(first: Tensor, second: Tensor) -> Tensor:
    """Areas of the intersections of boxes ``[N, 4]`` and ``[M, 4]``: ``[N, M]``."""
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    return (high - low).clamp(min=0).prod(-1)


def areas(boxes: Tensor) -> Tensor:
    """Of boxes ``[N, 4]``: ``[N]``."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes ``[N, 4]`` and ``[M, 4]``: ``[N, M]``; 0 of two boxes without area."""
    shared = shared_areas(first, second)
    union = areas(first)[:, None] + areas(second) - shared
    return torch.where(shared > 0, shared / union, torch.zeros_like(shared))


def match(anchors: Tensor, boxes: Tensor, ignored: Tensor, rules: Matching) -> Tensor:
    """For every anchor the index of its box, ``NEGATIVE`` or ``NEITHER``: int64 ``[N]``.

    Args:
        anchors: ``[N, 4]``.
        boxes: ``[G, 4]``; G may be 0.
        ignored: regions ``[M, 4]``; M may be 0.
        rules: of the matching.
    """
    assigned = torch.full((len(anchors),), NEGATIVE, dtype=torch.int64, device=anchors.device)
    if len(boxes):
        ious = overlaps(anchors, boxes)
        best, index = ious.max(1)
        assigned[best >= rules.negative_iou] = NEITHER
        assigned = torch.where(best >= rules.positive_iou, index, assigned)
        if rules.low_quality:
            claimed = torch.where((ious == ious.max(0).values) & (ious > 0), ious, ious.new_zeros(()))
            claim, claimant = claimed.max(1)
            assigned = torch.where(claim > 0, claimant, assigned)
    if len(ignored):
        inside = (shared_areas(anchors, ignored) / areas(anchors)[:, None]).max(1).values > rules.ignore_share
        assigned[inside & (assigned == NEGATIVE)] = NEITHER
    return assigned


def sample(assigned: Tensor, priorities: Tensor, count: int, positive_share: float) -> Tensor:
    """``assigned`` with all but a sample set to ``NEITHER``.

    At most ``count * positive_share`` positives, and negatives up to ``count`` together: those of the greatest
    ``priorities`` ``[N]``, which are all different.
    """
    chosen = torch.full_like(assigned, NEITHER)
    positives, negatives = assigned >= 0, assigned == NEGATIVE
    for which, room in ((positives, int(count * positive_share)), (negatives, count)):
        places = which.nonzero()[:, 0]
        if which is negatives:
            room -= int((chosen >= 0).sum())
        if len(places) > room:
            places = places[priorities[places].topk(room).indices]
        chosen[places] = assigned[places]
    return chosen


def anchor_priorities(seed: int, step: int, key: str, count: int) -> Tensor:
    """Random numbers float64 ``[count]`` of one image at one step."""
    rng = generator(seed, "anchor sample", step, zlib.crc32(key.encode()))
    return torch.from_numpy(rng.random(count))


def pack_target(boxes: np.ndarray, labels: np.ndarray, ignored: np.ndarray, capacity: int) -> np.ndarray:
    """Boxes and ignored regions as one float32 array ``[capacity, 5]``: x1, y1, x2, y2, label.

    Rows of ignored regions have the label ``IGNORED``, empty ones ``PADDING``; targets of one size make a batch.
    """
    target = np.zeros((capacity, 5), np.float32)
    target[:, 4] = PADDING
    count = len(boxes)
    target[:count, :4], target[:count, 4] = boxes, labels
    target[count : count + len(ignored), :4] = ignored
    target[count : count + len(ignored), 4] = IGNORED
    return target


def unpack_target(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes ``[G, 4]``, labels int64 ``[G]`` and ignored regions ``[M, 4]`` of a packed target ``[capacity, 5]``."""
    labels = target[:, 4]
    boxes = labels >= 0
    return target[boxes, :4], labels[boxes].long(), target[labels == IGNORED, :4]
