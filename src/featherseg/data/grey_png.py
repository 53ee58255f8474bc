"""Decoding of plain grey PNGs of 8 and 16 bits by compiled loops: label ids, instance ids.

* Inflating is zlib's; what is left of a PNG is one addition a byte, for which the usual decoders take longer than for
  inflating, and twice as long again until 16 bits a pixel are an array.
* Anything but a plain one (interlaced, with a palette, damaged) is left to :mod:`featherseg.data.images`, which decodes
  it or says what is wrong with it. Nothing is inflated beyond the size that the header declares.
* The compiled code is kept on disk, beside this file or in the user's cache folder; where neither can be written it is
  compiled anew in every process. It runs without the interpreter's lock.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from featherseg.data.headers import inspect, read_bytes
from featherseg.data.images import read_wide_mask

_SIGNATURE_BYTES, _INTERLACE_AT = 8, 28


def read_grey_png(path: str | Path) -> np.ndarray:
    """What :func:`~featherseg.data.images.read_wide_mask` gives: the integers as stored, ``[H, W]``.

    Raises:
        SpoiltFile: as it does.
    """
    data = read_bytes(path)
    header = inspect(data, path)
    if header.format == "png" and header.colour == 0 and header.bits in (8, 16) and not header.transparent:
        found = _decoded(data, header.height, header.width, header.bits // 8)
        if found is not None:
            return found
    return read_wide_mask(path)


def _decoded(data: bytes, height: int, width: int, depth: int) -> np.ndarray | None:
    """The picture of a grey PNG with ``depth`` bytes a pixel; None where it is not plain or not sound."""
    if data[_INTERLACE_AT]:
        return None
    size = height * (1 + width * depth)
    inflating = zlib.decompressobj()
    try:
        rows = inflating.decompress(_compressed(data), size)
    except zlib.error:
        return None
    if len(rows) != size:
        return None
    filtered = np.frombuffer(rows, np.uint8).reshape(height, -1)
    pixels = np.empty((height, width * depth), np.uint8)
    if not _unfilter(filtered, depth, pixels):
        return None
    return pixels if depth == 1 else pixels.view(">u2").astype(np.uint16)


def _compressed(data: bytes) -> bytes:
    """The picture's part of a PNG whose structure is known to be sound."""
    position, parts = _SIGNATURE_BYTES, []
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            parts.append(data[position + 8 : position + 8 + length])
        elif kind == b"IEND":
            return b"".join(parts)
        position += 12 + length


def _kernel(function: Callable[..., bool]) -> Any:
    """Compile, kept on disk where there is a folder that can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no folder for its cache
        return numba.njit(nogil=True)(function)


@_kernel
def _unfilter(filtered, depth, pixels):  # type: ignore[no-untyped-def]
    """Undo the five filters of PNG (specification, Sec. 9), whose number begins each row; False for another number."""
    height, width = pixels.shape
    for y in range(height):
        kind = filtered[y, 0]
        if kind > 4:
            return False
        if kind == 0 or (kind == 2 and y == 0):
            for x in range(width):
                pixels[y, x] = filtered[y, x + 1]
        elif kind == 2:
            for x in range(width):
                pixels[y, x] = np.uint8(filtered[y, x + 1] + pixels[y - 1, x])
        elif kind == 1 and depth == 1:
            left = np.uint8(0)
            for x in range(width):
                left = np.uint8(left + filtered[y, x + 1])
                pixels[y, x] = left
        elif kind == 1:
            high, low = np.uint8(0), np.uint8(0)
            for x in range(0, width, 2):
                high = np.uint8(high + filtered[y, x + 1])
                low = np.uint8(low + filtered[y, x + 2])
                pixels[y, x] = high
                pixels[y, x + 1] = low
        else:
            for x in range(width):
                a = np.int64(pixels[y, x - depth]) if x >= depth else 0
                b = np.int64(pixels[y - 1, x]) if y > 0 else 0
                c = np.int64(pixels[y - 1, x - depth]) if y > 0 and x >= depth else 0
                if kind == 3:
                    guess = (a + b) // 2
                else:
                    to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                    guess = a if to_a <= to_b and to_a <= to_c else (b if to_b <= to_c else c)
                pixels[y, x] = np.uint8(filtered[y, x + 1] + guess)
    return True
