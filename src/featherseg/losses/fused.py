"""Cross-entropy of bilinearly enlarged logits, one row at a time: the full-size logits are never stored.

Enlarging K-class logits to the label's size, soft-max and their gradients move ``K * H * W`` floats a dozen times
through memory and take a third of a light network's training step on a CPU. Here each output row is enlarged, turned
into losses and thrown away; the backward pass enlarges it again. The result equals
``cross_entropy(interpolate(logits))`` to float32 rounding.

Design choices:
- loops run over the pixels of a row with the classes outside, so that the compiler vectorises them; ``exp`` is a
  polynomial (relative error below 2e-7), since a library call would not be vectorised;
- the backward pass first reduces each row to the logits' width and then adds rows, so that no two threads write to
  one place and the result does not depend on the number of threads;
- the compiled code is kept on disk, beside this file or in the user's cache folder; where neither can be written it is
  compiled anew in every process;
- a label that is no class gives a loss of NaN, which stops the training with the batch's keys: the readers refuse such
  labels, but a slip here would read foreign memory.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from featherseg.models.compiled import match_threads

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_SMALLEST = np.float32(-87.0)
# Cephes' coefficients for exp on [-ln 2 / 2, ln 2 / 2].
_C0, _C1, _C2, _C3, _C4, _C5 = (
    np.float32(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_FAST = {"contract", "nsz", "arcp"}
_inline = numba.njit(inline="always", error_model="numpy", fastmath=_FAST)


def _kernel(function: Callable[..., None]) -> Any:
    """Compile over all threads, kept on disk where there is a folder that can be written."""
    try:
        return numba.njit(parallel=True, cache=True, error_model="numpy", fastmath=_FAST)(function)
    except RuntimeError:  # numba finds no folder for its cache
        return numba.njit(parallel=True, error_model="numpy", fastmath=_FAST)(function)


@_inline
def _exp_into(x, scale_bits, scale, out):  # type: ignore[no-untyped-def]
    """out = exp(x) for x <= 0, elementwise; ``scale`` is ``scale_bits`` seen as float32."""
    for i in range(x.size):
        value = max(x[i], _SMALLEST)
        n = np.floor(value * _LOG2_E + _HALF)
        r = value - n * _LN2_HIGH
        r = r - n * _LN2_LOW
        p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5
        out[i] = p * r * r + r + _ONE
        scale_bits[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
    for i in range(x.size):
        out[i] *= scale[i]


@_inline
def _enlarge_row(logits, b, top, bottom, fy, left, right, fx, row, out):  # type: ignore[no-untyped-def]
    """out[k, x] = the enlarged logits of one output row of image b."""
    width, small = left.size, row.size
    for k in range(logits.shape[1]):
        for j in range(small):
            upper = logits[b, k, top, j]
            row[j] = upper + fy * (logits[b, k, bottom, j] - upper)
        for x in range(width):
            start = row[left[x]]
            out[k, x] = start + fx[x] * (row[right[x]] - start)


@_kernel
def _forward(logits, labels, top, bottom, fy, left, right, fx, ignore, smoothing, losses, normaliser):  # type: ignore[no-untyped-def]
    batch, classes, _, small = logits.shape
    height, width = labels.shape[1:]
    for index in numba.prange(batch * height):
        b, y = index // height, index % height
        row = np.empty(small, np.float32)
        values = np.empty((classes, width), np.float32)
        largest, total = np.empty(width, np.float32), np.zeros(width, np.float32)
        mean = np.zeros(width, np.float32)
        shifted, powers = np.empty(width, np.float32), np.empty(width, np.float32)
        bits = np.empty(width, np.int32)
        scale = bits.view(np.float32)
        _enlarge_row(logits, b, top[y], bottom[y], fy[y], left, right, fx, row, values)
        for x in range(width):
            largest[x] = values[0, x]
        for k in range(1, classes):
            for x in range(width):
                largest[x] = max(largest[x], values[k, x])
        for k in range(classes):
            for x in range(width):
                shifted[x] = values[k, x] - largest[x]
            _exp_into(shifted, bits, scale, powers)
            for x in range(width):
                total[x] += powers[x]
                mean[x] += values[k, x]
        for x in range(width):
            logarithm = largest[x] + np.log(total[x])
            normaliser[b, y, x] = logarithm
            label = labels[b, y, x]
            if label == ignore:
                losses[b, y, x] = np.float32(0.0)
            elif label >= classes:
                losses[b, y, x] = np.float32(np.nan)
            else:
                target = values[label, x] + smoothing * (mean[x] / np.float32(classes) - values[label, x])
                losses[b, y, x] = logarithm - target


@_kernel
def _backward_rows(logits, labels, top, bottom, fy, left, right, fx, ignore, smoothing, normaliser, gradient, rows):  # type: ignore[no-untyped-def]
    """rows[b, y, k, j] = the gradient of one output row, reduced to the logits' width."""
    batch, classes, _, small = logits.shape
    height, width = labels.shape[1:]
    for index in numba.prange(batch * height):
        b, y = index // height, index % height
        row = np.empty(small, np.float32)
        values = np.empty((classes, width), np.float32)
        weight = np.empty(width, np.float32)
        shifted, powers = np.empty(width, np.float32), np.empty(width, np.float32)
        bits = np.empty(width, np.int32)
        scale = bits.view(np.float32)
        spread = smoothing / np.float32(classes)
        for x in range(width):
            weight[x] = np.float32(0.0) if labels[b, y, x] == ignore else gradient[b, y, x]
        _enlarge_row(logits, b, top[y], bottom[y], fy[y], left, right, fx, row, values)
        for k in range(classes):
            for x in range(width):
                shifted[x] = min(values[k, x] - normaliser[b, y, x], np.float32(0.0))
            _exp_into(shifted, bits, scale, powers)
            for x in range(width):
                target = spread + (_ONE - smoothing if labels[b, y, x] == k else np.float32(0.0))
                powers[x] = (powers[x] - target) * weight[x]
            for j in range(small):
                row[j] = np.float32(0.0)
            for x in range(width):
                share = powers[x] * fx[x]
                row[left[x]] += powers[x] - share
                row[right[x]] += share
            for j in range(small):
                rows[b, y, k, j] = row[j]


@_kernel
def _backward_columns(rows, top, bottom, fy, gradient):  # type: ignore[no-untyped-def]
    """gradient[b, k, i, j] = the sum of the output rows that logit row i had a part in."""
    batch, classes, low, small = gradient.shape
    height = rows.shape[1]
    for index in numba.prange(batch * low):
        b, i = index // low, index % low
        for k in range(classes):
            for j in range(small):
                gradient[b, k, i, j] = np.float32(0.0)
        for y in range(height):
            share = np.float32(0.0)
            if top[y] == i:
                share += _ONE - fy[y]
            if bottom[y] == i:
                share += fy[y]
            if share != np.float32(0.0):
                for k in range(classes):
                    for j in range(small):
                        gradient[b, k, i, j] += share * rows[b, y, k, j]


@cache
def _taps(size: int, low: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``size`` output positions: the lower tap, the upper tap and the upper tap's weight."""
    position = np.arange(size, dtype=np.float64)
    if align_corners:
        position = position * ((low - 1) / (size - 1)) if size > 1 else position * 0.0
    else:
        position = np.maximum((position + 0.5) * (low / size) - 0.5, 0.0)
    lower = np.minimum(position.astype(np.int32), low - 1)
    upper = np.minimum(lower + 1, low - 1).astype(np.int32)
    return lower, upper, (position - lower).astype(np.float32)


class _EnlargedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, ignore: int, align_corners: bool, smoothing: float) -> Tensor:  # type: ignore[override]
        match_threads()
        values = logits.detach().float().contiguous().numpy()
        truth = labels.contiguous().numpy()
        taps = (
            *_taps(labels.shape[1], logits.shape[2], align_corners),
            *_taps(labels.shape[2], logits.shape[3], align_corners),
        )
        losses = torch.empty(labels.shape, dtype=torch.float32)
        normaliser = np.empty(labels.shape, np.float32)
        _forward(values, truth, *taps, ignore, np.float32(smoothing), losses.numpy(), normaliser)
        ctx.state = (values, truth, taps, ignore, np.float32(smoothing), normaliser, logits.dtype)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        values, truth, taps, ignore, smoothing, normaliser, dtype = ctx.state
        batch, classes, _, small = values.shape
        rows = np.empty((batch, truth.shape[1], classes, small), np.float32)
        weight = gradient.float().contiguous().numpy()
        _backward_rows(values, truth, *taps, ignore, smoothing, normaliser, weight, rows)
        result = torch.empty(values.shape, dtype=torch.float32)
        _backward_columns(rows, *taps[:3], result.numpy())
        return result.to(dtype), None, None, None, None


def enlarged_cross_entropy_cpu(
    logits: Tensor, labels: Tensor, *, ignore: int, align_corners: bool, label_smoothing: float = 0.0
) -> Tensor:
    """Per-pixel cross-entropy float32 ``[B, H, W]`` of logits ``[B, K, h, w]`` enlarged to uint8 labels ``[B, H, W]``.

    Both on the CPU; every label is below K or equals ``ignore``, where loss and gradient are zero. Any other label
    gives NaN.
    """
    return _EnlargedCrossEntropy.apply(logits, labels, ignore, align_corners, label_smoothing)  # type: ignore[no-any-return]
