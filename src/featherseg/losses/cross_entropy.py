"""The cross-entropy family on logits at the network's stride: plain, OHEM and the paper's bootstrapped form.

Every loss is a reduction of one map, the per-pixel cross-entropy of the bilinearly enlarged logits; the selection of
pixels carries no gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255


def pixel_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    align_corners: bool,
    ignore: int = IGNORE,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of each pixel, float32 ``[B, H, W]``, zero where the label is ``ignore``.

    Args:
        logits: ``[B, K, h, w]`` at any stride; enlarged bilinearly to the labels' size.
        labels: uint8 ``[B, H, W]``, ids below K or ``ignore``.
        align_corners: of the enlarging (the network's InputSpec knows).
        ignore: the id that counts nowhere.
        label_smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016).
        class_weights: ``[K]``; each pixel's loss is multiplied by its class's weight.
    """
    if logits.device.type == "cpu" and logits.dtype in (torch.float32, torch.bfloat16, torch.float16):
        from featherseg.losses.fused import enlarged_cross_entropy_cpu

        losses = enlarged_cross_entropy_cpu(
            logits, labels, ignore=ignore, align_corners=align_corners, label_smoothing=label_smoothing
        )
    else:
        size = (labels.shape[1], labels.shape[2])
        wide = logits if logits.dtype == torch.float64 else logits.float()
        full = F.interpolate(wide, size=size, mode="bilinear", align_corners=align_corners)
        losses = F.cross_entropy(
            full, labels.long(), ignore_index=ignore, reduction="none", label_smoothing=label_smoothing
        )
    if class_weights is not None:
        table = torch.zeros(256, dtype=losses.dtype, device=losses.device)
        table[: class_weights.numel()] = class_weights
        losses = losses * table[labels.long()]
    return losses


def ohem(
    losses: Tensor, labels: Tensor, *, threshold: float = 0.7, min_kept: int = 10_000, ignore: int = IGNORE
) -> Tensor:
    """Online hard example mining over the whole batch (Shrivastava et al. 2016, as used for segmentation).

    The mean over the pixels whose true class has a probability below ``threshold``, and at least over the
    ``min_kept`` hardest labelled pixels (all of them where fewer are labelled).
    """
    labelled = losses[labels != ignore]
    if labelled.numel() == 0:
        return losses.sum() * 0.0
    limit = -torch.log(torch.tensor(threshold)).item()
    kept = min(min_kept, labelled.numel())
    detached = labelled.detach()
    hardest = torch.topk(detached, kept, sorted=True).values[-1]
    chosen = detached >= min(limit, hardest.item())
    return labelled[chosen].mean()


def bootstrapped(losses: Tensor, *, min_kept: int = 4096, threshold: float = 0.3) -> Tensor:
    """Bootstrapped cross-entropy of FC-HarDNet and FASSD-Net (Rosas-Arias et al. 2020, Sec. IV-A; published code).

    Per image, over all pixels (an ignored pixel counts as a loss of 0): with the losses in falling order, if the one
    at index ``min_kept`` (from 0) exceeds ``threshold``, the mean of all losses above ``threshold``, else the mean of
    the first ``min_kept``. Then the mean over the images. Where an image has no more than ``min_kept`` pixels, all of
    them are kept.
    """
    results = []
    for flat in losses.flatten(1):
        kept = min(min_kept, flat.numel())
        if flat.numel() > kept:
            above = flat.detach() > threshold
            # More than `min_kept` losses above the threshold is the same as the one at index `min_kept` above it.
            if int(above.sum()) > kept:
                results.append(flat[above].mean())
                continue
        results.append(torch.topk(flat, kept, sorted=False).values.mean())
    return torch.stack(results).mean()
