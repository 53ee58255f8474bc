"""The operators that FasterSeg's cells choose from, as a derived network has them.

Chen et al., "FasterSeg: Searching for Faster Real-time Semantic Segmentation", ICLR 2020.

| name           | stride 1                                | stride 2                                         |
|----------------|-----------------------------------------|--------------------------------------------------|
| skip           | identity                                | two 1x1 of stride 2, one shifted by a pixel      |
| conv           | 3x3                                     | 3x3 of stride 2                                  |
| conv_downup    | half the size, 3x3, and back ("zoomed") | half the size, 3x3                               |
| conv_2x        | 3x3, 3x3                                | 3x3 of stride 2, 3x3                             |
| conv_2x_downup | half the size, 3x3, 3x3, and back       | half the size, 3x3, 3x3                          |

Design choices:
- every convolution is followed by batch norm and ReLU; in the zoomed operators the last ReLU comes after the enlarging.
  The published class names speak of residuals, there are none;
- a map of odd height H is halved to H // 2 by the zoomed operators and to (H + 1) // 2 by strides; ``skip`` pads what
  its shifted half lacks there;
- ``resize`` is "bilinear" (corners aligned), as trained, or "nearest", with which the published latencies were taken;
- sub-modules are named as in the published code, so that its keys load.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError, nearest
from featherseg.models.layers import ConvLayer
from featherseg.models.norm import batch_norm_activation

Resize = Literal["bilinear", "nearest"]
OPERATORS = ("skip", "conv", "conv_downup", "conv_2x", "conv_2x_downup")  # the order of the published alpha columns


def resize_map(x: Tensor, size: tuple[int, int] | torch.Size, resize: Resize) -> Tensor:
    """``x`` [B, C, H, W] at ``size`` (H, W); the same tensor where it has it."""
    if x.shape[-2:] == size:
        return x
    if resize == "nearest":
        return F.interpolate(x, size=size, mode="nearest")
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class ConvNorm(ConvLayer):
    """Convolution, batch norm and ReLU; the latter two are one operator in training."""

    def forward(self, x: Tensor) -> Tensor:
        return batch_norm_activation(self.norm, self.conv(x), "relu")


class FactorizedReduce(nn.Module):
    """``skip`` with stride 2: ``[B, in, H, W]`` to ``[B, out, (H + 1) // 2, (W + 1) // 2]``; ``out`` is even."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return batch_norm_activation(self.bn, torch.cat([self.conv1(x), self.conv2(shifted)], 1), "relu")


class ConvOperator(nn.Module):
    """The four operators that convolve, ``[B, in, H, W]`` to ``[B, out, H', W']``.

    Args:
        in_channels, out_channels, stride: of the operator; a second convolution keeps the channels and the size.
        twice: whether there is a second convolution.
        zoomed: whether the convolutions run at half the size.
        resize: see the module.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        twice: bool,
        zoomed: bool,
        resize: Resize = "bilinear",
    ) -> None:
        super().__init__()
        self.stride, self.zoomed = stride, zoomed
        self.resize: Resize = resize
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, 1 if zoomed else stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False) if twice else None
        self.bn2 = nn.BatchNorm2d(out_channels) if twice else None

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.zoomed:
            x = resize_map(x, (height // 2, width // 2), self.resize)
        x, norm = self.conv1(x), self.bn1
        if self.conv2 is not None and self.bn2 is not None:
            x, norm = self.conv2(batch_norm_activation(norm, x, "relu")), self.bn2
        if self.zoomed and self.stride == 1:
            return F.relu(resize_map(norm(x), (height, width), self.resize))
        return batch_norm_activation(norm, x, "relu")


def build_operator(
    name: str, in_channels: int, out_channels: int, stride: int = 1, resize: Resize = "bilinear"
) -> nn.Module:
    """One of :data:`OPERATORS`, with stride 1 or 2.

    Raises:
        FeathersegError: no operator has that name, or a skip cannot give as many channels.
    """
    if name not in OPERATORS:
        raise FeathersegError(
            f"no operator is called {name!r}{nearest(str(name), OPERATORS)}. There are: {', '.join(OPERATORS)}."
        )
    if name != "skip":
        twice, zoomed = "2x" in name, "downup" in name
        return ConvOperator(in_channels, out_channels, stride, twice=twice, zoomed=zoomed, resize=resize)
    if stride == 1 and in_channels != out_channels:
        raise FeathersegError(
            f"a skip of stride 1 is the identity and cannot make {out_channels} channels of {in_channels}. "
            "Give it the same number, or take another operator."
        )
    if stride == 2 and out_channels % 2:
        raise FeathersegError(f"a skip of stride 2 gives an even number of channels, not {out_channels}.")
    return nn.Identity() if stride == 1 else FactorizedReduce(in_channels, out_channels)
