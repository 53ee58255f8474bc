"""Batch norm with the ReLU behind it as one operator, for training on a CPU.

By themselves the two go over the map one after the other, in both directions; here what lies between them is never
stored, and the backward pass computes it again. Elsewhere, and where a hook listens to the batch norm, both are
PyTorch's.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from featherseg.models.compiled import compiled_for, kernels, rows, stored

Activation = Literal["relu", "relu6"]
_LARGEST = {"relu": np.inf, "relu6": 6.0}
# Halfway between 6 and the bfloat16 below it: what lies above is stored as 6, where PyTorch's ReLU6 passes no gradient.
_STORED_AS_6 = 5.984375


def _parts(x: Tensor) -> tuple[int, int, np.ndarray]:
    """Values of a tile, values of a part, and the rows of each part, for a map ``[B, C, H, W]``."""
    channels = x.shape[1]
    compiled = kernels()
    tile = max(1, compiled.TILE // channels) * channels
    part = -(-compiled.PART // tile) * tile
    starts = np.arange(0, x.numel(), part)
    return tile, part, (np.minimum(starts + part, x.numel()) - starts) // channels


def batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, float32 ``[C]``, of a channels_last map ``[B, C, H, W]``."""
    tile, part, counts = _parts(x)
    means, squares = np.empty((2, counts.size, x.shape[1]), np.float32)
    kernels().moments(stored(rows(x)).reshape(-1), x.shape[1], tile, part, means, squares)
    # Chan, Golub and LeVeque 1979: the variance of all from the moments of the parts. No matrix product, whose library
    # would bring threads of its own.
    shares = (counts / counts.sum())[:, None]
    mean = (shares * means).sum(0)
    variance = squares.sum(0, dtype=np.float64) / counts.sum() + (shares * np.square(means - mean)).sum(0)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(variance.astype(np.float32))


class _NormActivation(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float, activation: Activation
    ) -> Tensor:
        deviation = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, bias, mean, deviation)
        ctx.activation = activation
        tile, part, _ = _parts(x)
        source, y = rows(x), torch.empty_like(rows(x))
        coefficients = _tiled(tile, mean, weight * deviation, bias)
        kernels().normalise(
            stored(source).reshape(-1), *coefficients, np.float32(_LARGEST[activation]), part, stored(y).reshape(-1)
        )
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        x, weight, bias, mean, deviation = ctx.saved_tensors
        tile, part, counts = _parts(x)
        largest = _LARGEST[ctx.activation]
        if x.dtype == torch.bfloat16 and ctx.activation == "relu6":
            largest = _STORED_AS_6
        scale = weight * deviation
        source, upstream = stored(rows(x)).reshape(-1), stored(rows(gradient)).reshape(-1)
        recomputed = (*_tiled(tile, mean, scale, bias), np.float32(largest))
        sums, products = np.empty((2, counts.size, x.shape[1]), np.float32)
        compiled = kernels()
        compiled.norm_backward_sums(source, upstream, *recomputed, x.shape[1], part, sums, products)
        total = torch.from_numpy(sums.sum(0, dtype=np.float64).astype(np.float32))
        product = torch.from_numpy(products.sum(0, dtype=np.float64).astype(np.float32))
        count = int(counts.sum())
        slope, constant = -scale * deviation.square() * product / count, -scale * total / count
        for_x = torch.empty_like(rows(x))
        compiled.norm_backward(
            source, upstream, *recomputed, *_tiled(tile, slope, constant), part, stored(for_x).reshape(-1)
        )
        return for_x.permute(0, 3, 1, 2), product * deviation, total, None, None, None, None


def _tiled(tile: int, *vectors: Tensor) -> list[np.ndarray]:
    """Each vector ``[C]`` repeated to ``tile`` values."""
    return [np.tile(vector.detach().numpy(), tile // vector.numel()) for vector in vectors]


def batch_norm_activation(norm: nn.BatchNorm2d, x: Tensor, activation: Activation) -> Tensor:
    """``activation(norm(x))`` of a map ``[B, C, H, W]``; in training running statistics move as in ``norm(x)``.

    Where it trains on a CPU (``compiled.compiled_for``) its backward pass cannot be differentiated again.
    """
    if not _compiled(norm, x):
        y = norm(x)
        return F.relu6(y, inplace=True) if activation == "relu6" else F.relu(y, inplace=True)
    mean, variance = batch_moments(x)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        norm.running_mean.lerp_(mean, norm.momentum)  # type: ignore[union-attr,arg-type]
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)  # type: ignore[union-attr,arg-type]
    return _NormActivation.apply(x, norm.weight, norm.bias, mean, variance, norm.eps, activation)  # type: ignore[no-any-return]


def _compiled(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    usual = norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
    if not usual or x.dim() != 4 or x.numel() <= x.shape[1]:
        return False
    heard = norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks
    single = all(tensor.dtype == torch.float32 for tensor in (norm.weight, norm.bias, norm.running_mean))  # type: ignore[union-attr]
    return not heard and single and norm.num_features == x.shape[1] and compiled_for(x, norm.weight, norm.bias)
