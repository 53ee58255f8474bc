"""Judging a supernet: batch norms are set anew for the very network that is judged, then it is run as any other.

Statistics that were gathered while widths, operators' shares and architectures changed fit none of them. The published
choice between branches was made on such statistics, at 3 and 6 % mIoU.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.search.supernet import OUTPUTS, Supernet, Widths


class SupernetOutput(nn.Module):
    """One of the supernet's five outputs, at given widths, as a network."""

    def __init__(self, supernet: Supernet, role: int, widths: Widths, output: str) -> None:
        super().__init__()
        self.supernet, self.role, self.widths, self.index = supernet, role, widths, OUTPUTS.index(output)
        self.input_spec: InputSpec = supernet.input_spec

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.supernet(images, self.role, self.widths)[self.index])


@torch.no_grad()
def recalibrated(supernet: Supernet, role: int, widths: Widths, batches: Iterable[Tensor]) -> Supernet:
    """A copy whose running statistics are plain means over ``batches`` at ``widths``; ``supernet`` is left as it is.

    Args:
        supernet: in any mode.
        role: of the architecture.
        widths: of the passes.
        batches: normalised images ``[B, 3, H, W]``.
    """
    own = copy.deepcopy(supernet).train()
    norms = [layer for layer in own.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    for images in batches:
        own(images, role, widths)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return own.eval()
