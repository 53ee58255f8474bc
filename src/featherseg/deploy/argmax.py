"""From low-resolution logits to a label map without ever holding full-size logits of all classes.

The classes are enlarged one after the other and compared with the best so far: 9 bytes a pixel, however many classes
there are, where full-size logits take 4 K. Each class is enlarged by the same arithmetic as all together, so that the
labels are those of ``InputSpec.enlarge(...).argmax(1)`` to the bit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featherseg.models.output import InputSpec


@dataclass(frozen=True)
class LabelMap:
    """Ids uint8 ``[H, W]`` and, where asked for, the soft-max probability of each float32 ``[H, W]``."""

    labels: np.ndarray
    confidence: np.ndarray | None = None


@torch.inference_mode()
def label_map(logits: Tensor, spec: InputSpec, size: tuple[int, int], *, confidence: bool = False) -> LabelMap:
    """The class of every pixel of one image.

    Args:
        logits: float ``[K, h, w]`` at the network's stride, 1 <= K <= 255; the first of equal classes wins.
        spec: how they are enlarged.
        size: (H, W) of the image.
        confidence: give the probability of the chosen class as well; takes a second pass.
    """
    classes = logits.shape[0]
    if not 1 <= classes <= 255:
        raise ValueError(f"{classes} classes do not fit into an 8-bit label map, which has ids 0 to 254")
    logits = logits.contiguous()

    def enlarged(number: int) -> Tensor:
        return spec.enlarge(logits[number : number + 1, None].contiguous(), size)[0, 0]

    best = enlarged(0).clone()
    labels = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    for number in range(1, classes):
        candidate = enlarged(number)
        labels.masked_fill_(candidate > best, number)
        torch.maximum(best, candidate, out=best)
    if not confidence:
        return LabelMap(labels.cpu().numpy())
    total = torch.zeros(size, device=logits.device)
    for number in range(classes):
        total += (enlarged(number) - best).exp_()
    return LabelMap(labels.cpu().numpy(), total.reciprocal_().cpu().numpy())
