"""Layers that two or more networks share."""

from collections.abc import Callable
from typing import Any

import torch
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


class _ChannelsLastPReLU(torch.autograd.Function):
    """PReLU on rows of channels: PyTorch's own backward pass is several times slower in this layout on a CPU."""

    @staticmethod
    def forward(ctx, x: Tensor, slopes: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, slopes)
        rows = _rows(x)
        return _image(torch.addcmul(rows, rows.clamp_max(0), slopes.to(x.dtype) - 1), x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, slopes = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(_rows(gradient), _rows(x), 0)
        below = _rows(gradient) - above
        for_x = _image(torch.addcmul(above, below, slopes.to(x.dtype)), x)
        ones = torch.ones(1, below.shape[0], dtype=x.dtype)
        return for_x, (ones @ below.mul_(_rows(x)))[0].to(slopes.dtype)


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _image(rows: Tensor, like: Tensor) -> Tensor:
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def prelu(x: Tensor, slopes: Tensor) -> Tensor:
    """PReLU with a slope per channel, ``[B, C, H, W]``; the same function as ``F.prelu``, trained faster on a CPU."""
    trained_here = torch.is_grad_enabled() and slopes.requires_grad and x.device.type == "cpu"
    if trained_here and x.dtype != torch.float64 and x.is_contiguous(memory_format=torch.channels_last):
        return _ChannelsLastPReLU.apply(x, slopes)  # type: ignore[no-any-return]
    return F.prelu(x, slopes.to(x.dtype))


class PReLU(nn.PReLU):
    """``nn.PReLU`` computed by :func:`prelu`."""

    def forward(self, input: Tensor) -> Tensor:
        return prelu(input, self.weight)
