"""The soft Jaccard loss: the mean IoU of a batch with probabilities in place of decisions.

Cross-entropy weighs every pixel alike, so that classes of few pixels (poles, signs) hardly count; here every class that
occurs counts alike, as it does in mIoU. The sums run over the whole batch: an image alone holds too few rare pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from featherseg.losses.cross_entropy import IGNORE


def soft_jaccard(logits: Tensor, labels: Tensor, *, align_corners: bool, ignore: int = IGNORE) -> Tensor:
    """1 minus the mean over the classes that occur of ``sum(p t) / (sum(p) + sum(t) - sum(p t))``, a scalar.

    p is the softmax of the bilinearly enlarged logits, t the one-hot label; pixels of ``ignore`` count nowhere, and a
    batch of them alone has a loss of 0 with a zero gradient (Rahman and Wang 2016, for several classes).

    Args:
        logits: ``[B, K, h, w]`` at any stride; computed in float32, or in float64 where they are.
        labels: uint8 ``[B, H, W]``, ids below K or ``ignore``.
        align_corners: of the enlarging (the network's InputSpec knows).
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    full = F.interpolate(wide, size=(labels.shape[1], labels.shape[2]), mode="bilinear", align_corners=align_corners)
    counted = labels != ignore
    ids = torch.where(counted, labels, 0).long()
    probability = torch.softmax(full, 1) * counted[:, None]
    predicted = probability.sum((0, 2, 3))
    of_truth = probability.gather(1, ids[:, None])[:, 0]
    overlap = torch.zeros_like(predicted).index_add(0, ids.flatten(), of_truth.flatten())
    pixels = torch.bincount(ids[counted], minlength=logits.shape[1]).to(predicted.dtype)
    occurs = pixels > 0
    if not bool(occurs.any()):
        return full.sum() * 0.0
    return 1 - (overlap / (predicted + pixels - overlap))[occurs].mean()
