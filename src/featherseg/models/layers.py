"""Layers that two or more networks share."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

IntPair = int | tuple[int, int]


class ConvLayer(nn.Module):
    """Convolution without bias, batch norm (eps 1e-5), ReLU; padded so that stride 1 keeps the size.

    The sub-modules are named ``conv`` and ``norm``, as in the published HarDNet code, so that its keys load.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


def resize(x: Tensor, size: tuple[int, int] | Any, *, align_corners: bool) -> Tensor:
    """Bilinear resizing to an explicit (H, W)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def initialise_convolutions(module: nn.Module, initialiser: Callable[[Tensor], Any]) -> None:
    """Apply ``initialiser`` to the weight of every ``Conv2d`` in ``module``."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            initialiser(layer.weight)
