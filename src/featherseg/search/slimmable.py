"""Operators whose channels can be fewer than they were built with: one weight, cut to what a pass uses.

Yu et al., "Slimmable Neural Networks", ICLR 2019, and Yu and Huang, "Universally Slimmable Networks", ICCV 2019, as
FasterSeg uses them: a convolution takes the first channels of its weight, and every width has a batch norm of its own.

The five operators compute what ``models.fasterseg_cells`` computes on the same channels, but for ``skip`` at stride 1,
which is a 1x1 convolution while it is searched and the identity in a derived network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.models.fasterseg_cells import OPERATORS, resize_map
from featherseg.models.norm import batch_norm_activation


class SlimmableConv(nn.Conv2d):
    """A convolution without bias; ``forward`` takes the number of channels to give."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: Tensor, out_channels: int) -> Tensor:  # type: ignore[override]
        return F.conv2d(x, self.weight[:out_channels, : x.shape[1]], None, self.stride, self.padding)


class SwitchableNorm(nn.Module):
    """A batch norm for each number of channels.

    ``published_extras`` adds the scale and shift of full width that the published class has and never uses.
    """

    def __init__(self, channels: tuple[int, ...], published_extras: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(one) for one in channels)
        self.index = {one: i for i, one in enumerate(channels)}
        if published_extras:
            self.weight, self.bias = nn.Parameter(torch.ones(channels[-1])), nn.Parameter(torch.zeros(channels[-1]))

    def of(self, x: Tensor) -> nn.BatchNorm2d:
        """The batch norm for as many channels as ``x`` has."""
        return self.norms[self.index[x.shape[1]]]  # type: ignore[return-value]


class SlimmableSkip(nn.Module):
    """``skip``: a 1x1 convolution, or at stride 2 two of them, the second shifted by a pixel."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], stride: int, published_extras: bool) -> None:
        super().__init__()
        out = channels[-1] // stride
        self.conv1 = SlimmableConv(in_channels, out, 1, stride)
        self.conv2 = SlimmableConv(in_channels, out, 1, stride) if stride == 2 else None
        self.norm = SwitchableNorm(channels, published_extras)

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        if self.conv2 is None:
            y = self.conv1(x, out_channels)
        else:
            shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
            y = torch.cat([self.conv1(x, out_channels // 2), self.conv2(shifted, out_channels // 2)], 1)
        return batch_norm_activation(self.norm.of(y), y, "relu")


class SlimmableOperator(nn.Module):
    """The four operators that convolve; ``twice`` and ``zoomed`` as of ``fasterseg_cells.ConvOperator``."""

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, ...],
        stride: int,
        *,
        twice: bool,
        zoomed: bool,
        published_extras: bool,
    ) -> None:
        super().__init__()
        self.stride, self.zoomed = stride, zoomed
        full = channels[-1]
        self.conv1 = SlimmableConv(in_channels, full, 3, 1 if zoomed else stride)
        self.norm1 = SwitchableNorm(channels, published_extras)
        self.conv2 = SlimmableConv(full, full, 3) if twice else None
        self.norm2 = SwitchableNorm(channels, published_extras) if twice else None

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        height, width = x.shape[-2:]
        if self.zoomed:
            x = resize_map(x, (height // 2, width // 2), "bilinear")
        x, norms = self.conv1(x, out_channels), self.norm1
        if self.conv2 is not None and self.norm2 is not None:
            x, norms = self.conv2(batch_norm_activation(norms.of(x), x, "relu"), out_channels), self.norm2
        if self.zoomed and self.stride == 1:
            return F.relu(resize_map(norms.of(x)(x), (height, width), "bilinear"))
        return batch_norm_activation(norms.of(x), x, "relu")


class MixedOperator(nn.Module):
    """All five operators of one stride, and their weighted sum.

    Args:
        in_channels: at full width.
        channels: every number of channels it may give, rising; the last is the full one.
        stride: 1 or 2.
        published_extras: as of :class:`SwitchableNorm`.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], stride: int, published_extras: bool) -> None:
        super().__init__()
        self.stride = stride
        self.operators = nn.ModuleList(
            SlimmableSkip(in_channels, channels, stride, published_extras)
            if name == "skip"
            else SlimmableOperator(
                in_channels,
                channels,
                stride,
                twice="2x" in name,
                zoomed="downup" in name,
                published_extras=published_extras,
            )
            for name in OPERATORS
        )

    def forward(self, x: Tensor, weights: Tensor, out_channels: int) -> Tensor:
        """``sum_k weights[k] * operator_k(x)``, ``[B, out_channels, h, w]``; odd sizes are rounded up by stride 2."""
        size = (-(-x.shape[-2] // self.stride), -(-x.shape[-1] // self.stride))
        total: Tensor | None = None
        for weight, operator in zip(weights.unbind(), self.operators, strict=True):
            y = resize_map(operator(x, out_channels), size, "bilinear") * weight
            total = y if total is None else total + y
        assert total is not None
        return total
