"""Boundary supervision: what a boundary head is trained towards, computed from labels, and its loss.

Wang et al. (DRBANet), Sec. 2.4, after Fan et al. 2021 (STDC), Sec. 3.3: a Laplacian (8 in the centre, -1 around) of the
map of class ids at strides 1, 2 and 4, each made binary at 0.1 and enlarged to full size, fused with weights 0.6, 0.3
and 0.1, and made binary at 0.1 again.

Two targets:

- ``published``: what that recipe computes, to the bit. The fusing weights are called trainable, but no gradient passes
  a threshold, so they are constants; a pixel that stride 4 alone marks has 0.1, which is not above 0.1; the Laplacian
  of ids is positive on the side of the greater id alone (and cancels between a smaller and a greater one); the zeros
  around the image make its frame an edge of every class but 0; ignored pixels are a class of id 255.
- ``corrected``: a pixel is an edge if one of its eight neighbours is of another class. Ids have no order, what lies
  outside the image or is ignored is no neighbour, ignored pixels count nowhere, and the last threshold includes 0.1,
  so that each of the three strides marks.

Design choices:
- ids are compared, not convolved: ``published`` is nine times the centre against a box sum in int16, ``corrected`` the
  least against the greatest neighbour in uint8, both by shifted slices. The same on every device, and a small part of
  what the convolutions in float32 cost;
- the Laplacian at stride s is the one at stride 1, taken at every s-th pixel;
- the loss is one number an image, so that parts of a batch and processes add up.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from featherseg.errors import FeathersegError, nearest

IGNORE = 255
BoundaryKind = Literal["published", "corrected"]
COARSE_STRIDES = (2, 4)


def boundary_target(labels: Tensor, kind: BoundaryKind = "corrected") -> tuple[Tensor, Tensor]:
    """The boundary pixels of a batch of labels, and the pixels that count.

    Args:
        labels: uint8 ``[B, H, W]``, class ids or 255 for ignore, on any device.
        kind: as told above.

    Returns:
        Two bool tensors ``[B, H, W]`` on the labels' device: the target, false wherever nothing counts, and which
        pixels count (all of them for ``published``).

    Raises:
        FeathersegError: ``kind`` is unknown.
    """
    if kind == "published":
        fine = _greater_than_surroundings(labels)
        # Stride 4 alone gives 0.1 of 0.6 + 0.3 + 0.1, which is not above 0.1: it marks nothing.
        coarse = fine[:, None, ::2, ::2].to(torch.uint8)
        enlarged = F.interpolate(coarse, size=fine.shape[1:], mode="nearest")[:, 0]
        return fine | enlarged.bool(), torch.ones_like(fine)
    if kind == "corrected":
        valid = labels != IGNORE
        fine = _between_classes(labels).logical_and_(valid)
        target = fine.clone()
        for stride in COARSE_STRIDES:
            _mark_blocks(target, fine[:, ::stride, ::stride], stride)
        return target.logical_and_(valid), valid
    kinds = get_args(BoundaryKind)
    raise FeathersegError(
        f"no boundary target is called {kind!r}{nearest(str(kind), kinds)}. Known: {', '.join(kinds)}."
    )


def boundary_loss(logits: Tensor, labels: Tensor, kind: BoundaryKind = "corrected") -> Tensor:
    """Binary cross-entropy plus dice loss (Wang et al., Eq. 3) of each image, ``[B]``.

    The logits are enlarged to the labels' size with corners aligned. The cross-entropy is the mean over the pixels that
    count; the dice loss is ``1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1)`` with p the probability and t the target.
    An image whose pixels are all ignored has a ``corrected`` loss of 0 with a zero gradient.

    Args:
        logits: ``[B, 1, h, w]`` at any stride; computed in float32, or in float64 where they are.
        labels: uint8 ``[B, H, W]``, class ids or 255 for ignore.
        kind: of :func:`boundary_target`.
    """
    target, valid = boundary_target(labels, kind)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    full = F.interpolate(wide, size=labels.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    truth, counted = target.to(full.dtype), valid.to(full.dtype)
    entropy = F.binary_cross_entropy_with_logits(full, truth, weight=counted, reduction="none")
    entropy = entropy.sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)
    probability = torch.sigmoid(full) * counted
    overlap = (probability * truth).sum((1, 2))
    return entropy + 1 - (2 * overlap + 1) / (probability.sum((1, 2)) + truth.sum((1, 2)) + 1)


def _greater_than_surroundings(labels: Tensor) -> Tensor:
    """Where the Laplacian of the ids, zeros around the image, is above 0.1: nine times the id exceeds the 3x3 sum."""
    ids = labels.to(torch.int16)
    rows = ids.clone()
    rows[:, 1:] += ids[:, :-1]
    rows[:, :-1] += ids[:, 1:]
    box = rows.clone()
    box[:, :, 1:] += rows[:, :, :-1]
    box[:, :, :-1] += rows[:, :, 1:]
    return 9 * ids > box


def _between_classes(labels: Tensor) -> Tensor:
    """Where the 3x3 neighbourhood within the image holds two classes; of no meaning on ignored pixels."""
    least = _spread(labels, torch.minimum)  # 255 is above every id, so that it is never the least
    greatest = _spread(labels.masked_fill(labels == IGNORE, 0), torch.maximum)
    return least != greatest


def _spread(ids: Tensor, choose: Callable[..., Tensor]) -> Tensor:
    """The least or the greatest id of each pixel's 3x3 neighbourhood within the image."""
    rows = ids.clone()
    for inner, outer in ((rows[:, 1:], ids[:, :-1]), (rows[:, :-1], ids[:, 1:])):
        choose(inner, outer, out=inner)
    square = rows.clone()
    for inner, outer in ((square[:, :, 1:], rows[:, :, :-1]), (square[:, :, :-1], rows[:, :, 1:])):
        choose(inner, outer, out=inner)
    return square


def _mark_blocks(target: Tensor, marks: Tensor, stride: int) -> None:
    """Mark in ``target``, in place, the stride x stride block of every mark; the last blocks may be cut off."""
    width = target.shape[2]
    wide = marks[..., None].expand(*marks.shape, stride).flatten(2)[:, :, :width]
    for row in range(min(stride, target.shape[1])):
        lines = target[:, row::stride]
        lines.logical_or_(wide[:, : lines.shape[1]])
