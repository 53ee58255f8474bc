"""Depthwise 3x3 convolution whose groups of channels have a rate each, and the forms of it that are fast on a CPU.

The plain form, a convolution a group and a concatenation, is for exports, counters, GPUs and double precision. With it
the network's blocks take twice as long in use, and in training a quarter longer, than MobileNet V2's
(results/benchmarks/pyramid_block.json): every cut and the concatenation go over the map. On a CPU, with maps that are
channels_last, compiled kernels run instead (``pyramid_kernels.py``): in training the convolution both ways, in use the
convolution with the batch norms and activations before and after it. Results equal the plain form's to the rounding of
the type.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from featherseg.models.compiled import compiled_for, match_threads, rows, stored
from featherseg.models.depthwise import _Depthwise

_NOTHING = np.empty((3, 0), np.float32)
_UNLIMITED = np.float32(np.inf)


def _kernels() -> Any:
    from featherseg.models import pyramid_kernels

    match_threads()
    return pyramid_kernels


def _taps(weight: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Weights ``[C, 1, 3, 3]`` as ``[9, C]`` float32, rounded to ``dtype``: products of the type of the map."""
    return weight.detach().to(dtype).float().flatten(1).t().contiguous().numpy()


class _Pyramid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, rates: tuple[int, ...]) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.settings = stride, np.array(rates)
        source = rows(x)
        batch, height, width, channels = source.shape
        y = torch.empty(batch, -(-height // stride), -(-width // stride), channels, dtype=x.dtype)
        taps, around = _taps(weight, x.dtype), (_NOTHING, _NOTHING, _UNLIMITED)
        _kernels().pyramid_convolution(stored(source), taps, ctx.settings[1], stride, 1, *around, stored(y))
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        x, weight = ctx.saved_tensors
        stride, rates = ctx.settings
        compiled = _kernels()
        source, upstream = stored(rows(x)), stored(rows(gradient))
        for_x = torch.empty_like(rows(x))
        turned, around = _taps(weight, x.dtype)[::-1].copy(), (_NOTHING, _NOTHING, _UNLIMITED)
        compiled.pyramid_convolution(upstream, turned, rates, 1, stride, *around, stored(for_x))
        size = weight.shape[0] // len(rates)
        lanes, vectors = compiled.vectors_of.py_func(size)
        bands = -(-gradient.shape[2] // compiled.BAND)
        sums = np.empty((x.shape[0] * bands, len(rates), 9, lanes * vectors), np.float32)
        compiled.pyramid_weight_gradient(source, upstream, rates, stride, sums)
        # The last vector of a group ends with its last channel, wherever the one before ends.
        whole = size // lanes * lanes
        columns = np.r_[:whole, lanes * vectors - (size - whole) : lanes * vectors]
        totals = sums.sum(0, dtype=np.float64)[:, :, columns].transpose(0, 2, 1)
        for_weight = torch.from_numpy(totals.reshape(weight.shape)).to(weight.dtype)
        return for_x.permute(0, 3, 1, 2), for_weight, None, None


def _branch(x: Tensor, weight: Tensor, stride: Any, rate: int) -> Tensor:
    """One rate's convolution, with the compiled backward pass of ``depthwise.py``.

    PyTorch 2.13's own ends the process now and then, in bfloat16 with 8 channels and a rate of 4.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    return _Depthwise.apply(x, weight, None, stride, (rate, rate), (rate, rate))  # type: ignore[no-any-return]


class PyramidDepthwiseConv2d(nn.Conv2d):
    """Depthwise 3x3 convolutions of several rates, padded by their rates, and their outputs one after another.

    ``forward``: ``[B, C, H, W]`` to ``[B, N, ceil(H / stride), ceil(W / stride)]``. Where N = C each of the K rates has
    its own C / K channels; where N = K * C each has all. ``weight`` is ``[N, 1, 3, 3]``, as one convolution's: with one
    rate this is one. Where it trains on a CPU (``compiled.compiled_for``) its backward pass cannot be differentiated
    again.

    Raises:
        ValueError: the channels fit neither.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, rates: tuple[int, ...]) -> None:
        split, shared = in_channels % len(rates) == 0, out_channels == len(rates) * in_channels
        if not (shared or (split and out_channels == in_channels)):
            raise ValueError(
                f"{in_channels} channels to {out_channels} are no depthwise convolutions of rates {rates}."
            )
        super().__init__(in_channels, out_channels, 3, stride, groups=in_channels, bias=False)
        self.rates = rates
        self.shared = shared and len(rates) > 1

    def forward(self, input: Tensor) -> Tensor:
        casting = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if casting else self.weight.dtype
        known_type = dtype == torch.bfloat16 if casting else input.dtype == dtype
        compiled = known_type and self.bias is None and compiled_for(input, self.weight)
        if compiled and not self.shared:
            return _Pyramid.apply(input.to(dtype), self.weight, self.stride[0], self.rates)  # type: ignore[no-any-return]
        size = self.out_channels // len(self.rates)
        outputs = []
        for number, rate in enumerate(self.rates):
            own = slice(number * size, (number + 1) * size)
            x = input if self.shared or len(self.rates) == 1 else input[:, own]
            if compiled:
                outputs.append(_branch(x.to(dtype), self.weight[own], self.stride, rate))
            else:
                bias = None if self.bias is None else self.bias[own]
                outputs.append(F.conv2d(x, self.weight[own], bias, self.stride, rate, rate, size))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride[0]}, rates={self.rates}"


@dataclass(frozen=True)
class NormActivation:
    """Batch norm by its running statistics, then negative values times ``slopes`` (none: 0), cut at ``largest``."""

    norm: nn.BatchNorm2d
    slopes: Tensor | None
    largest: float

    def vectors(self) -> list[Tensor]:
        """Weight, bias, mean, variance and slopes, float32 ``[C]`` each."""
        norm = self.norm
        slopes = torch.zeros(norm.num_features) if self.slopes is None else self.slopes
        return [norm.weight, norm.bias, norm.running_mean, norm.running_var, slopes]  # type: ignore[list-item]


def usable_on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether :func:`pyramid_in_use` may run on the map ``x``: plain PyTorch on a CPU without gradients."""
    return (
        not torch.is_grad_enabled()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and weight.dtype == torch.float32
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and _get_current_dispatch_mode() is None
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not torch._C._are_functorch_transforms_active()
    )


def pyramid_in_use(
    x: Tensor, before: NormActivation | None, layer: PyramidDepthwiseConv2d, after: NormActivation
) -> Tensor:
    """``after(layer(before(x)))`` in one pass, where :func:`usable_on_cpu`: ``[B, C, H, W]`` to ``[B, C, H', W']``.

    ``largest`` of both is the same. Maps of bfloat16 are rounded at the end alone, not in between.
    """
    source, stride, weight = rows(x), layer.stride[0], layer.weight.detach()
    batch, height, width, channels = source.shape
    y = torch.empty(batch, -(-height // stride), -(-width // stride), channels, dtype=x.dtype)
    if x.dtype != torch.float32:
        weight = weight.to(x.dtype).float()
    norms = [after] if before is None else [before, after]
    vectors = torch.cat([vector for norm in norms for vector in norm.vectors()]).detach()
    _kernels().pyramid_with_norms(
        stored(source),
        weight.reshape(channels, 9).numpy(),
        np.array(layer.rates),
        stride,
        vectors.numpy().reshape(len(norms), 5, channels),
        np.array([norm.norm.eps for norm in norms]),
        np.float32(after.largest),
        stored(y),
    )
    return y.permute(0, 3, 1, 2)
