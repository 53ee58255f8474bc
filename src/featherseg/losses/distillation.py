"""What a student's logits are compared by with a teacher's: per-pixel KL and channel-wise distillation.

Every loss is one number an image, so that parts of a batch and processes add up. Logits are compared where both lie on
one grid (grids.py), in float32, or float64 where they are.

Hinton et al. 2015 (temperature); Chen et al., FasterSeg, 2020 (published code: ``nn.KLDivLoss()`` over everything);
Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from featherseg.losses.cross_entropy import IGNORE

Reduction = Literal["labelled", "published"]


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def pixel_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of the soft-max over classes, times the squared temperature: ``[B, h, w]``.

    Args:
        student: logits ``[B, K, h, w]``.
        teacher: logits of the same shape; they get no gradient.
        temperature: divides both logits; its square keeps the gradient's size.
    """
    ours = F.log_softmax(_wide(student) / temperature, 1)
    theirs = F.log_softmax(_wide(teacher.detach()) / temperature, 1)
    return (theirs.exp() * (theirs - ours)).sum(1) * temperature**2


def divergence(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    reduction: Reduction = "labelled",
) -> Tensor:
    """:func:`pixel_divergence` of each image, ``[B]``.

    Args:
        student: logits ``[B, K, h, w]``.
        teacher: logits of the same shape.
        labels: uint8 ``[B, h, w]`` on the same grid; they only say which pixels are labelled.
        temperature: of the soft-max.
        reduction: ``labelled`` is the mean over the labelled pixels (0 for an image without any); ``published`` that of
            ``nn.KLDivLoss()``, a mean over pixels *and classes*, ignored pixels included: with K classes about 1/K of
            the other.
    """
    found = pixel_divergence(student, teacher, temperature)
    if reduction == "published":
        return found.mean((1, 2)) / student.shape[1]
    labelled = (labels != IGNORE).to(found.dtype)
    return (found * labelled).sum((1, 2)) / labelled.sum((1, 2)).clamp(min=1)


def channel_wise(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Channel-wise distillation (Shu et al. 2021, Eqs. 2-4) of each image, ``[B]``.

    Each channel's soft-max runs over the pixels, all of them, and says where that class is; the KL between the two maps
    is a mean over channels, times the squared temperature.

    Args:
        student: ``[B, C, h, w]``, logits in the recipes here.
        teacher: the same shape; it gets no gradient.
        temperature: of the soft-max; larger takes in wider areas.
    """
    ours = F.log_softmax(_wide(student).flatten(2) / temperature, 2)
    theirs = F.log_softmax(_wide(teacher.detach()).flatten(2) / temperature, 2)
    return (theirs.exp() * (theirs - ours)).sum(2).mean(1) * temperature**2
