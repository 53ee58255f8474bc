"""Depthwise convolution that trains fast on a CPU: PyTorch's forward pass and a compiled backward pass.

Elsewhere, on other devices and layouts, in exports and under counters, it is ``nn.Conv2d``. Gradients equal PyTorch's
to the rounding of the type; that of a float32 weight stays float32 under autocast, where PyTorch rounds it to bfloat16.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from featherseg.models.compiled import compiled_for, kernels, rows, stored

Pair = tuple[int, int]


def _gradients(
    x: Tensor, upstream: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[Tensor, Tensor]:
    """Of the map and of the weight ``[C, 1, kh, kw]``, each in its own type."""
    compiled = kernels()
    channels, _, height, width = weight.shape
    repeats = max(1, compiled.TILE // channels)
    # Products of the type that the forward pass took.
    taps = weight.detach().to(x.dtype).float().permute(2, 3, 1, 0).expand(-1, -1, repeats, -1)
    taps = taps.reshape(height, width, repeats * channels)
    for_x = torch.empty_like(rows(x))
    parts = torch.empty(x.shape[0] * compiled.BANDS, *taps.shape)
    compiled.depthwise_backward(
        stored(rows(x)),
        stored(rows(upstream)),
        stored(taps),
        stride,
        padding,
        dilation,
        stored(for_x),
        stored(parts),
    )
    # numpy sums in one order, whatever the number of threads.
    totals = parts.numpy().sum(0, dtype=np.float64).reshape(height, width, repeats, channels).sum(2)
    for_weight = torch.from_numpy(totals).to(weight.dtype).permute(2, 0, 1).unsqueeze(1)
    return for_x.permute(0, 3, 1, 2), for_weight.contiguous()


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = (stride, padding, dilation)
        ctx.bias_type = None if bias is None else bias.dtype
        narrow_bias = None if bias is None else bias.to(x.dtype)
        return F.conv2d(x, weight.to(x.dtype), narrow_bias, stride, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        x, weight = ctx.saved_tensors
        for_x, for_weight = _gradients(x, gradient, weight, *ctx.settings)
        for_bias = None
        if ctx.bias_type is not None:
            for_bias = gradient.sum((0, 2, 3), dtype=torch.float64).to(ctx.bias_type)
        return for_x, for_weight, for_bias, None, None, None


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with as many groups as channels in and out: the same arguments, keys and results.

    Where it trains on a CPU (``compiled.compiled_for``) its backward pass cannot be differentiated again.

    Raises:
        ValueError: channels in, channels out and groups differ.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *args, **kwargs)
        if not in_channels == out_channels == self.groups:
            raise ValueError(f"{in_channels} channels to {out_channels} in {self.groups} groups are not depthwise.")

    def forward(self, input: Tensor) -> Tensor:
        parameters = (self.weight,) if self.bias is None else (self.weight, self.bias)
        casting = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if casting else self.weight.dtype
        known_type = dtype == torch.bfloat16 if casting else input.dtype == dtype
        zeros = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if not (known_type and zeros and compiled_for(input, *parameters)):
            return super().forward(input)
        settings: Any = (self.stride, self.padding, self.dilation)
        return _Depthwise.apply(input.to(dtype), self.weight, self.bias, *settings)  # type: ignore[no-any-return]
