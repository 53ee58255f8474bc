"""The losses of detectors, of one image's anchors; pure functions of raw scores, deltas and their targets.

``classes`` says of each anchor what it is to be: -1 nothing (it does not count), 0 background, 1..K an object;
``wanted`` are the deltas of the objects' boxes and is read where ``classes`` is above 0.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

BETA = 1 / 9


def box_loss(deltas: Tensor, wanted: Tensor, classes: Tensor, beta: float) -> Tensor:
    """The sum of smooth L1 over the deltas of all objects (Girshick 2015); ``beta`` is where it turns linear."""
    objects = classes > 0
    return F.smooth_l1_loss(deltas[objects].float(), wanted[objects], beta=beta, reduction="sum")


def _one_hot(classes: Tensor, scores: Tensor) -> Tensor:
    """Objects' classes as ``[N, K]`` of 0 and 1; the background's rows are 0."""
    return F.one_hot(classes.clamp(min=0), scores.shape[1] + 1)[:, 1:].to(torch.float32)


def sampled_loss(
    scores: Tensor, deltas: Tensor, wanted: Tensor, classes: Tensor, *, beta: float = BETA, box_weight: float = 1.0
) -> Tensor:
    """Binary cross-entropy of every class and smooth L1, both over the number of counted anchors (Ren et al. 2015).

    Args:
        scores: logits ``[N, K]``.
        deltas, wanted: ``[N, 4]``.
        classes: int64 ``[N]``; those of the sample are not -1.
        beta: of smooth L1.
        box_weight: of smooth L1 against cross-entropy.
    """
    counted = classes >= 0
    entropy = F.binary_cross_entropy_with_logits(
        scores[counted].float(), _one_hot(classes, scores)[counted], reduction="sum"
    )
    return (entropy + box_weight * box_loss(deltas, wanted, classes, beta)) / counted.sum().clamp(min=1)


def focal_loss(
    scores: Tensor,
    deltas: Tensor,
    wanted: Tensor,
    classes: Tensor,
    *,
    beta: float = BETA,
    box_weight: float = 1.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Focal loss of all anchors and smooth L1, both over the number of objects' anchors (Lin et al. 2017b, Eq. 5).

    Arguments as :func:`sampled_loss` has them; ``alpha`` weighs objects against 1 - ``alpha`` for the rest, and
    ``gamma`` is the power of what is missing to certainty.
    """
    counted = classes >= 0
    logits, truth = scores[counted].float(), _one_hot(classes, scores)[counted]
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missing = (truth - logits.sigmoid()).abs()
    weight = truth * alpha + (1 - truth) * (1 - alpha)
    focal = (weight * missing**gamma * entropy).sum()
    return (focal + box_weight * box_loss(deltas, wanted, classes, beta)) / (classes > 0).sum().clamp(min=1)


def multibox_loss(
    scores: Tensor,
    deltas: Tensor,
    wanted: Tensor,
    classes: Tensor,
    *,
    beta: float = 1.0,
    box_weight: float = 1.0,
    negatives: float = 3.0,
) -> Tensor:
    """SSD's loss: softmax cross-entropy and smooth L1 over the number of objects' anchors (Liu et al. 2016, Eq. 1).

    Of the background the anchors with the greatest loss count, ``negatives`` times as many as objects. An image without
    objects has a loss of 0. Normalised for each image, where the paper does so for the batch.

    Args:
        scores: logits ``[N, K + 1]``, the background first.
        deltas, wanted, classes, beta, box_weight: as :func:`sampled_loss` has them.
        negatives: for one object's anchor.
    """
    objects = classes > 0
    entropy = F.cross_entropy(scores.float(), classes.clamp(min=0), reduction="none")
    background = entropy[classes == 0]
    hard = min(int(negatives * int(objects.sum())), len(background))
    total = entropy[objects].sum() + background.topk(hard).values.sum()
    return (total + box_weight * box_loss(deltas, wanted, classes, beta)) / objects.sum().clamp(min=1)
