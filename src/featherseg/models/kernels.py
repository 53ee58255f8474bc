"""Compiled kernels for training on CPUs: depthwise convolution backward, batch norm with its activation both ways.

PyTorch's own take half of a mobile network's training step: its depthwise backward pass has a fast form for undilated
3x3 kernels of stride 1 alone, and batch norm and activation each read and write whole maps of their own.

Design choices:
- maps are rows of channels (channels_last), float32, or bfloat16 seen as uint16: widened by shifting, narrowed to the
  nearest with ties to even. All sums are float32 within a part of a map and float64 over the parts;
- the parts that are summed apart depend on shapes alone, and no two threads write to one place, so that results are the
  same bits with any number of threads;
- inner loops run over contiguous values. Where there are few channels, weights and sums are repeated for several
  pixels (``TILE``), so that these loops stay long enough to be vectorised;
- the threads are PyTorch's own: numba's OpenMP layer binds to the OpenMP library that PyTorch has loaded before;
- the compiled code is kept on disk where there is a folder that can be written. Everything is in this one file, since
  numba compiles anew when the kernel's own file changes, and not when another one does.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

TILE = 512  # values of an inner loop, at least
PART = 1 << 16  # values of a map that are summed apart from others
BANDS = 4  # rows of an image are split into so many parts
_FAST = {"contract", "nsz", "arcp"}
_ZERO = np.float32(0.0)


def _kernel(function: Callable[..., None]) -> Any:
    """Compile over all threads, kept on disk where there is a folder that can be written."""
    try:
        return numba.njit(parallel=True, cache=True, error_model="numpy", fastmath=_FAST)(function)
    except RuntimeError:  # numba finds no folder for its cache
        return numba.njit(parallel=True, error_model="numpy", fastmath=_FAST)(function)


def _wide(value: Any) -> Any:
    """A stored value as float32."""


def _put(stored: Any, index: Any, value: Any) -> Any:
    """``stored[index] = value``, rounded to what is stored there."""


@overload(_wide)
def _wide_of(value):  # type: ignore[no-untyped-def]
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


@overload(_put)
def _put_into(stored, index, value):  # type: ignore[no-untyped-def]
    def put(stored, index, value):  # type: ignore[no-untyped-def]
        stored[index] = value

    def put_rounded(stored, index, value):  # type: ignore[no-untyped-def]
        bits = np.float32(value).view(np.uint32)
        last = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
        rounded = np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + last)
        number = np.uint32(bits & np.uint32(0x7FFFFFFF)) <= np.uint32(0x7F800000)
        # The rounding would carry a NaN's bits into its sign.
        stored[index] = np.uint16(np.uint32(rounded if number else np.uint32(0x7FC00000)) >> np.uint32(16))

    return put_rounded if stored.dtype == types.uint16 else put


_inline = numba.njit(inline="always", error_model="numpy", fastmath=_FAST)


@_inline
def _read_row(row, stride, phases):  # type: ignore[no-untyped-def]
    """phases[q] = the pixels q, q + stride, ... of ``row`` ``[W, C]`` one after another."""
    width, channels = row.shape
    if stride == 1:
        flat, target = row.reshape(width * channels), phases[0]
        for i in range(flat.size):
            target[i] = _wide(flat[i])
    else:
        for x in range(width):
            source, target = row[x], phases[x % stride][x // stride * channels : (x // stride + 1) * channels]
            for c in range(source.size):
                target[c] = _wide(source[c])


@_inline
def _write_row(phases, stride, row):  # type: ignore[no-untyped-def]
    """The inverse of :func:`_read_row`."""
    width, channels = row.shape
    if stride == 1:
        source, flat = phases[0], row.reshape(width * channels)
        for i in range(flat.size):
            _put(flat, i, source[i])
    else:
        for x in range(width):
            source, target = phases[x % stride][x // stride * channels : (x // stride + 1) * channels], row[x]
            for c in range(target.size):
                _put(target, c, source[c])


@_inline
def _one_tap(gradient, weight, values, for_values, for_weight):  # type: ignore[no-untyped-def]
    for i in range(gradient.size):
        upstream = gradient[i]
        for_values[i] += weight[i] * upstream
        for_weight[i] += values[i] * upstream


@_kernel
def depthwise_backward(x, gradient, weight, stride, padding, dilation, for_x, for_weight):  # type: ignore[no-untyped-def]
    """The gradients of a depthwise convolution.

    ``x``, ``for_x`` ``[B, H, W, C]``, ``gradient`` ``[B, H', W', C]``; ``weight`` ``[kh, kw, P * C]`` is repeated for P
    pixels. ``for_weight`` ``[B * BANDS, kh, kw, P * C]`` gets sums whose total over the first axis and the pixels is
    the weight's gradient. ``stride``, ``padding`` and ``dilation`` are pairs (vertical, horizontal).
    """
    batch, height, width, channels = x.shape
    rows_out, width_out = gradient.shape[1], gradient.shape[2]
    kernel_height, kernel_width, tile = weight.shape
    step = stride[1]
    for part in numba.prange(batch * BANDS):
        b, band = part // BANDS, part % BANDS
        sums = for_weight[part]
        sums[:] = _ZERO
        length = (width + step - 1) // step * channels
        values, totals = np.empty((step, length), np.float32), np.empty((step, length), np.float32)
        upstream = np.empty((1, width_out * channels), np.float32)
        for y in range(band * height // BANDS, (band + 1) * height // BANDS):
            _read_row(x[b, y], step, values)
            totals[:] = _ZERO
            for i in range(kernel_height):
                offset = y + padding[0] - i * dilation[0]
                if offset < 0 or offset % stride[0] != 0 or offset // stride[0] >= rows_out:
                    continue
                _read_row(gradient[b, offset // stride[0]], 1, upstream)
                for j in range(kernel_width):
                    # Output pixel p meets pixel p * step + shift, number p + first of its phase.
                    shift = j * dilation[1] - padding[1]
                    phase = shift % step
                    first = (shift - phase) // step
                    left, right = max(0, -first), min(width_out, (width - 1 - phase) // step + 1 - first)
                    for begin in range(left * channels, right * channels, tile):
                        end = min(begin + tile, right * channels)
                        size, moved = end - begin, begin + first * channels
                        _one_tap(
                            upstream[0][begin:end],
                            weight[i, j][:size],
                            values[phase][moved : moved + size],
                            totals[phase][moved : moved + size],
                            sums[i, j][:size],
                        )
            _write_row(totals, step, for_x[b, y])


@_inline
def _fold_and_repeat(sums, channels, scale):  # type: ignore[no-untyped-def]
    """Each channel's total over the tile's pixels, times ``scale``, at all of them."""
    for start in range(channels, sums.size, channels):
        for c in range(channels):
            sums[c] += sums[start + c]
    for c in range(channels):
        sums[c] *= scale
    for start in range(channels, sums.size, channels):
        for c in range(channels):
            sums[start + c] = sums[c]


@_kernel
def moments(x, channels, tile, part_size, means, squares):  # type: ignore[no-untyped-def]
    """Each part's mean ``[parts, C]`` and sum of squared differences from it, of flat ``x`` whose rows are channels."""
    for part in numba.prange(means.shape[0]):
        start, stop = part * part_size, min((part + 1) * part_size, x.size)
        mean, square = np.zeros(tile, np.float32), np.zeros(tile, np.float32)
        for begin in range(start, stop, tile):
            block = x[begin : min(begin + tile, stop)]
            for i in range(block.size):
                mean[i] += _wide(block[i])
        _fold_and_repeat(mean, channels, np.float32(1.0) / np.float32((stop - start) // channels))
        for begin in range(start, stop, tile):
            block = x[begin : min(begin + tile, stop)]
            for i in range(block.size):
                difference = _wide(block[i]) - mean[i]
                square[i] += difference * difference
        _fold_and_repeat(square, channels, np.float32(1.0))
        for c in range(channels):
            means[part, c], squares[part, c] = mean[c], square[c]


@_kernel
def normalise(x, mean, scale, shift, largest, part_size, y):  # type: ignore[no-untyped-def]
    """y = (x - mean) * scale + shift, cut at 0 and ``largest``; ``mean``, ``scale``, ``shift`` of a tile."""
    tile = mean.size
    for part in numba.prange((x.size + part_size - 1) // part_size):
        stop = min((part + 1) * part_size, x.size)
        for begin in range(part * part_size, stop, tile):
            source, target = x[begin : min(begin + tile, stop)], y[begin : min(begin + tile, stop)]
            for i in range(source.size):
                value = (_wide(source[i]) - mean[i]) * scale[i] + shift[i]
                value = _ZERO if value < _ZERO else value
                _put(target, i, largest if value > largest else value)


@_kernel
def norm_backward_sums(x, gradient, mean, scale, shift, largest, channels, part_size, sums, products):  # type: ignore[no-untyped-def]
    """Each part's sums ``[parts, C]`` of the gradient before the activation, and of its products with x - mean."""
    tile = mean.size
    for part in numba.prange(sums.shape[0]):
        stop = min((part + 1) * part_size, x.size)
        total, product = np.zeros(tile, np.float32), np.zeros(tile, np.float32)
        for begin in range(part * part_size, stop, tile):
            values, upstream = x[begin : min(begin + tile, stop)], gradient[begin : min(begin + tile, stop)]
            for i in range(values.size):
                centred = _wide(values[i]) - mean[i]
                before = centred * scale[i] + shift[i]
                passed = _ZERO if before <= _ZERO or before >= largest else _wide(upstream[i])
                total[i] += passed
                product[i] += passed * centred
        _fold_and_repeat(total, channels, np.float32(1.0))
        _fold_and_repeat(product, channels, np.float32(1.0))
        for c in range(channels):
            sums[part, c], products[part, c] = total[c], product[c]


@_kernel
def norm_backward(x, gradient, mean, scale, shift, largest, slope, constant, part_size, for_x):  # type: ignore[no-untyped-def]
    """for_x = (gradient before the activation) * scale + (x - mean) * slope + constant."""
    tile = mean.size
    for part in numba.prange((x.size + part_size - 1) // part_size):
        stop = min((part + 1) * part_size, x.size)
        for begin in range(part * part_size, stop, tile):
            end = min(begin + tile, stop)
            values, upstream, target = x[begin:end], gradient[begin:end], for_x[begin:end]
            for i in range(values.size):
                centred = _wide(values[i]) - mean[i]
                before = centred * scale[i] + shift[i]
                passed = _ZERO if before <= _ZERO or before >= largest else _wide(upstream[i])
                _put(target, i, passed * scale[i] + (centred * slope[i] + constant[i]))
