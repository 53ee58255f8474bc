"""Batch norm with the PReLU behind it as one operator, for training on a CPU, as ``norm.py`` has it for ReLU."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from featherseg.models.compiled import compiled_for, match_threads, rows, stored
from featherseg.models.norm import _compiled, _parts, _tiled, batch_moments


class _NormPReLU(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, weight: Tensor, bias: Tensor, slopes: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        from featherseg.models import pyramid_kernels

        deviation = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, bias, slopes, mean, deviation)
        tile, part, _ = _parts(x)
        source, y = rows(x), torch.empty_like(rows(x))
        coefficients = _tiled(tile, mean, weight * deviation, bias, slopes)
        pyramid_kernels.normalise_prelu(stored(source).reshape(-1), *coefficients, part, stored(y).reshape(-1))
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        from featherseg.models import pyramid_kernels

        match_threads()
        x, weight, bias, slopes, mean, deviation = ctx.saved_tensors
        tile, part, counts = _parts(x)
        scale = weight * deviation
        source, upstream = stored(rows(x)).reshape(-1), stored(rows(gradient)).reshape(-1)
        recomputed = _tiled(tile, mean, scale, bias, slopes)
        sums = np.empty((3, counts.size, x.shape[1]), np.float32)
        pyramid_kernels.norm_prelu_sums(source, upstream, *recomputed, x.shape[1], part, *sums)
        total, product, below = torch.from_numpy(sums.sum(1, dtype=np.float64).astype(np.float32))
        count = int(counts.sum())
        linear, constant = -scale * deviation.square() * product / count, -scale * total / count
        for_x = torch.empty_like(rows(x))
        pyramid_kernels.norm_prelu_backward(
            source, upstream, *recomputed, *_tiled(tile, linear, constant), part, stored(for_x).reshape(-1)
        )
        return for_x.permute(0, 3, 1, 2), product * deviation, total, below, None, None, None


def batch_norm_prelu(norm: nn.BatchNorm2d, prelu: nn.PReLU, x: Tensor) -> Tensor:
    """``prelu(norm(x))`` of a map ``[B, C, H, W]``; in training running statistics move as in ``norm(x)``.

    Where it trains on a CPU (``compiled.compiled_for``) its backward pass cannot be differentiated again.
    """
    slopes = prelu.weight
    if not norm.training:  # in deployed graphs it may be folded away
        return prelu(norm(x))
    heard = prelu._forward_hooks or prelu._forward_pre_hooks or prelu._backward_hooks or prelu._backward_pre_hooks
    usual = not heard and slopes.dtype == torch.float32 and slopes.numel() == norm.num_features
    if not (usual and _compiled(norm, x) and compiled_for(x, slopes)):
        return prelu(norm(x))
    mean, variance = batch_moments(x)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        norm.running_mean.lerp_(mean, norm.momentum)  # type: ignore[union-attr,arg-type]
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)  # type: ignore[union-attr,arg-type]
    return _NormPReLU.apply(x, norm.weight, norm.bias, slopes, mean, variance, norm.eps)  # type: ignore[no-any-return]
