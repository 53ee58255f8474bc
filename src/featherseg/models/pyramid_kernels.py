"""Compiled kernels for CPUs: depthwise 3x3 convolution with a rate a group of channels, and what surrounds it.

As separate operators the groups of a pyramid block cost several times one depthwise convolution: channels are cut
apart and joined again, and each of these is a pass over the largest map of the network. Here a group is a place in the
map.

Design choices:
- maps, rounding and threads are as told in ``kernels.py``. What is taken from there and from ``pyramid_vectors.py`` is
  compiled into these: when it changes this file must change too, or numba runs what it compiled before;
- a part is a band of rows of one group. Its rows are widened to float32 and padded with zeros once, into a ring of as
  many rows as the kernel spans;
- the loops over a row's pixels are written in vectors of ``LANES`` channels (``pyramid_vectors.py``), with weights or
  sums in registers: of loops over channels numba keeps neither there, and these maps have few channels a group. The
  last vector of a group overlaps the one before; groups of fewer channels go one by one;
- the activations around the convolution, batch norm with PReLU or ReLU6, may be applied as rows come and go: in use,
  not in training, the maps before and after are then read and written once;
- the gradient for the map is the same convolution with the kernel turned round, of the gradient with zeros between its
  pixels where there is a stride.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from featherseg.models.kernels import _ZERO, _fold_and_repeat, _kernel, _put, _wide
from featherseg.models.pyramid_vectors import LANES, convolve, convolve_activated, correlate, take, take_activated

BAND = 32  # rows of a part, at most: a band of all groups stays in a processor's second cache


def _serial(function: Callable[..., Any]) -> Any:
    """Compile for one thread, kept on disk where there is a folder that can be written."""
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba finds no folder for its cache
        return numba.njit(error_model="numpy")(function)


@numba.njit
def vectors_of(size):  # type: ignore[no-untyped-def]
    """Lanes and number of the vectors of a group of ``size`` channels."""
    lanes = LANES if size >= LANES else 1
    return lanes, (size + lanes - 1) // lanes


@_kernel
def pyramid_convolution(x, weight, rates, stride, stuffing, before, after, largest, y):  # type: ignore[no-untyped-def]
    """The convolution, padded by each group's rate: ``x`` ``[B, H, W, K * C]`` to ``y`` ``[B, H', W', K * C]``.

    ``weight`` ``[9, K * C]``; ``stuffing`` - 1 zeros are put between the pixels of ``x``. ``before`` and ``after``
    ``[3, K * C]`` are scale, shift and slope of the activations around it, or of no channels where there is none.
    """
    batch, height, width, channels = x.shape
    rows_out, width_out = y.shape[1], y.shape[2]
    groups, size = rates.size, channels // rates.size
    lanes, vectors = vectors_of(size)
    pitch = lanes * vectors
    bands = (rows_out + BAND - 1) // BAND
    for part in numba.prange(batch * bands * groups):
        g, band, b = part % groups, part // groups % bands, part // (groups * bands)
        rate, first = rates[g], g * size
        pixels = max((width - 1) * stuffing, (width_out - 1) * stride) + 1 + 2 * rate
        ring = np.zeros((2 * rate + 2, pixels * pitch), np.float32)  # the last row stays zero
        held = np.full(2 * rate + 1, -1)
        slots = np.empty(3, np.int64)
        for out in range(band * rows_out // bands, (band + 1) * rows_out // bands):
            for i in range(3):
                line = out * stride + (i - 1) * rate
                row = line // stuffing
                slots[i] = 2 * rate + 1
                if line < 0 or line % stuffing != 0 or row >= height:
                    continue
                slot = line % (2 * rate + 1)
                slots[i] = slot
                if held[slot] == line:
                    continue
                held[slot] = line
                source = x[b, row].reshape(width * channels)
                for v in range(vectors):
                    c = min(v * lanes, size - lanes)
                    # Source, its start and step; target, its start and step; number of pixels.
                    places = (first + c, channels, rate * pitch + c, stuffing * pitch, width)
                    if before.shape[1]:
                        take_activated(lanes, places, source, ring[slot], before, first + c, largest)
                    else:
                        take(lanes, places, source, ring[slot])
            target = y[b, out].reshape(width_out * channels)
            for v in range(vectors):
                c = min(v * lanes, size - lanes)
                places = (c, stride * pitch, first + c, channels, width_out)
                lines = (ring[slots[0]], ring[slots[1]], ring[slots[2]])
                if after.shape[1]:
                    convolve_activated(
                        lanes, places, lines, rate * pitch, weight, first + c, target, after, first + c, largest
                    )
                else:
                    convolve(lanes, places, lines, rate * pitch, weight, first + c, target)


@_serial
def pyramid_with_norms(x, weight, rates, stride, norms, eps, largest, y):  # type: ignore[no-untyped-def]
    """:func:`pyramid_convolution` between batch norms by their running statistics, each with its activation.

    ``weight`` ``[K * C, 9]``; ``norms`` ``[N, 5, K * C]`` are weight, bias, mean, variance and slope of the norm
    before, where there is one (N = 2), and of the one after.
    """
    count, _, channels = norms.shape
    taps, activations = np.empty((9, channels), np.float32), np.empty((count, 3, channels), np.float32)
    for c in range(channels):
        for tap in range(9):
            taps[tap, c] = weight[c, tap]
        for n in range(count):
            scale = norms[n, 0, c] / np.sqrt(norms[n, 3, c] + eps[n])
            activations[n, 0, c] = scale
            activations[n, 1, c] = norms[n, 1, c] - norms[n, 2, c] * scale
            activations[n, 2, c] = norms[n, 4, c]
    before = activations[0] if count == 2 else activations[0, :, :0].copy()
    pyramid_convolution(x, taps, rates, stride, 1, before, activations[count - 1], largest, y)


@_kernel
def pyramid_weight_gradient(x, gradient, rates, stride, sums):  # type: ignore[no-untyped-def]
    """The gradient of the weight: ``sums`` ``[B * bands, K, 9, vectors * lanes]`` is to be summed over its first axis.

    A band has at most ``BAND`` rows of ``gradient``.
    """
    batch, height, width, channels = x.shape
    rows_out, width_out = gradient.shape[1], gradient.shape[2]
    groups, size = rates.size, channels // rates.size
    lanes, vectors = vectors_of(size)
    pitch = lanes * vectors
    bands = (rows_out + BAND - 1) // BAND
    for part in numba.prange(batch * bands * groups):
        g, band, b = part % groups, part // groups % bands, part // (groups * bands)
        rate, first = rates[g], g * size
        own = sums[b * bands + band, g]
        own[:] = _ZERO
        pixels = max(width - 1, (width_out - 1) * stride) + 1 + 2 * rate
        ring = np.zeros((2 * rate + 2, pixels * pitch), np.float32)
        held = np.full(2 * rate + 1, -1)
        slots = np.empty(3, np.int64)
        upstream = np.empty(width_out * pitch, np.float32)
        for out in range(band * rows_out // bands, (band + 1) * rows_out // bands):
            source = gradient[b, out].reshape(width_out * channels)
            for v in range(vectors):
                c = min(v * lanes, size - lanes)
                take(lanes, (first + c, channels, c, pitch, width_out), source, upstream)
            for i in range(3):
                row = out * stride + (i - 1) * rate
                slots[i] = 2 * rate + 1
                if row < 0 or row >= height:
                    continue
                slot = row % (2 * rate + 1)
                slots[i] = slot
                if held[slot] == row:
                    continue
                held[slot] = row
                source = x[b, row].reshape(width * channels)
                for v in range(vectors):
                    c = min(v * lanes, size - lanes)
                    take(lanes, (first + c, channels, rate * pitch + c, pitch, width), source, ring[slot])
            for v in range(vectors):
                c = min(v * lanes, size - lanes)
                places = (c, stride * pitch, c, pitch, width_out)
                lines = (ring[slots[0]], ring[slots[1]], ring[slots[2]])
                correlate(lanes, places, lines, rate * pitch, upstream, own, v * lanes)


@_kernel
def normalise_prelu(x, mean, scale, shift, slope, part_size, y):  # type: ignore[no-untyped-def]
    """PReLU of (x - mean) * scale + shift; ``mean`` and the others of a tile."""
    tile = mean.size
    for part in numba.prange((x.size + part_size - 1) // part_size):
        stop = min((part + 1) * part_size, x.size)
        for begin in range(part * part_size, stop, tile):
            source, target = x[begin : min(begin + tile, stop)], y[begin : min(begin + tile, stop)]
            for i in range(source.size):
                value = (_wide(source[i]) - mean[i]) * scale[i] + shift[i]
                _put(target, i, value * slope[i] if value < _ZERO else value)


@_kernel
def norm_prelu_sums(x, gradient, mean, scale, shift, slope, channels, part_size, sums, products, below):  # type: ignore[no-untyped-def]
    """Each part's sums ``[parts, C]``: the gradient before PReLU, its products with x - mean, the slope's gradient."""
    tile = mean.size
    for part in numba.prange(sums.shape[0]):
        stop = min((part + 1) * part_size, x.size)
        total, product = np.zeros(tile, np.float32), np.zeros(tile, np.float32)
        negative = np.zeros(tile, np.float32)
        for begin in range(part * part_size, stop, tile):
            values, upstream = x[begin : min(begin + tile, stop)], gradient[begin : min(begin + tile, stop)]
            for i in range(values.size):
                centred = _wide(values[i]) - mean[i]
                before = centred * scale[i] + shift[i]
                given = _wide(upstream[i])
                passed = given if before > _ZERO else given * slope[i]
                total[i] += passed
                product[i] += passed * centred
                negative[i] += _ZERO if before > _ZERO else given * before
        _fold_and_repeat(total, channels, np.float32(1.0))
        _fold_and_repeat(product, channels, np.float32(1.0))
        _fold_and_repeat(negative, channels, np.float32(1.0))
        for c in range(channels):
            sums[part, c], products[part, c], below[part, c] = total[c], product[c], negative[c]


@_kernel
def norm_prelu_backward(x, gradient, mean, scale, shift, slope, linear, constant, part_size, for_x):  # type: ignore[no-untyped-def]
    """for_x = (gradient before PReLU) * scale + (x - mean) * linear + constant."""
    tile = mean.size
    for part in numba.prange((x.size + part_size - 1) // part_size):
        stop = min((part + 1) * part_size, x.size)
        for begin in range(part * part_size, stop, tile):
            end = min(begin + tile, stop)
            values, upstream, target = x[begin:end], gradient[begin:end], for_x[begin:end]
            for i in range(values.size):
                centred = _wide(values[i]) - mean[i]
                given = _wide(upstream[i])
                passed = given if centred * scale[i] + shift[i] > _ZERO else given * slope[i]
                _put(target, i, passed * scale[i] + (centred * linear[i] + constant[i]))
