"""Decoding of images and masks that trusts no file.

* The header and the structure are checked before anything is decoded (:mod:`featherseg.data.headers`).
* OpenCV decodes ordinary JPEG and PNG for speed. Everything whose stored numbers it would change (palette PNG, grey of
  1, 2, 4 or 16 bits, transparency) goes through Pillow.
* A mask gives the ids as stored. Colour masks are refused unless a table of colours is given, and JPEG masks are
  refused always, since lossy compression invents ids along every edge.
"""

import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from featherseg.data.headers import MAX_PIXELS, Header, SpoiltFile, damaged, inspect, read_bytes, too_large
from featherseg.data.labels import IGNORE

_EXIF_ORIENTATION = 0x0112
_UNKNOWN_COLOUR = 254
_LARGEST_RAW = 0xFFFFF


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (width, height) as :func:`read_image` would give them, without decoding."""
    data = read_bytes(path)
    header = inspect(data, path)
    return (header.height, header.width) if _orientation(data, header) >= 5 else (header.width, header.height)


def _orientation(data: bytes, header: Header) -> int:
    if not header.exif:
        return 1
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises many types, and does not spoil the pixels
        return 1


def _pillow(data: bytes, path: str | Path) -> Image.Image:
    """Decode strictly with Pillow."""
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except Image.DecompressionBombError as error:
        raise too_large(path, str(error).split(",")[0]) from None
    except Exception as error:  # Pillow's many decoders raise many types
        raise damaged("corrupt file", path, f"cannot be decoded ({error})") from None
    return picture


def _opencv(data: bytes, path: str | Path, flags: int) -> np.ndarray:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise damaged("corrupt file", path, f"cannot be decoded ({error.err})") from None
    if picture is None:
        raise damaged("corrupt file", path, "cannot be decoded")
    return picture


def _upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: 5 to 8 store the picture transposed, the others mirror rows, columns or both."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(picture[::rows, ::columns])


def _rgb(data: bytes, path: str | Path, header: Header) -> np.ndarray:
    if header.format == "other":
        decoded = _pillow(data, path)
        if decoded.mode.startswith(("I", "F")):
            what = f"stores pixels of mode {decoded.mode}"
            raise SpoiltFile("image format", path, what, "Convert it to 8-bit grey or RGB.")
        picture = np.array(decoded.convert("RGB"))
    else:
        stored = _opencv(data, path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        picture = cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)
    return _upright(picture, _orientation(data, header))


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image to uint8 ``[H, W, 3]`` RGB, upright by its EXIF orientation.

    Grey is repeated over the three channels, 16-bit PNGs keep their high byte, transparency is dropped.

    Raises:
        SpoiltFile: missing, unreadable, truncated, corrupt, or of more than ``max_pixels`` pixels.
    """
    return decode_image(read_bytes(path), path, max_pixels=max_pixels)


def decode_image(data: bytes, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode what :func:`read_image` would, from a file's bytes (out of an archive); ``path`` names it in messages."""
    return _rgb(data, path, inspect(data, path, max_pixels=max_pixels))


def _stored_ids(data: bytes, path: str | Path, header: Header) -> np.ndarray:
    """Return the numbers a mask stores, in whatever integer type they need."""
    if header.format == "jpeg":
        mend = "Save masks as PNG; where only the JPEG exists, threshold it back to clean ids first."
        raise SpoiltFile("mask format", path, "the mask is a JPEG, whose compression alters ids at every edge", mend)
    if header.format == "png" and header.colour == 0 and header.bits in (8, 16) and not header.transparent:
        return _opencv(data, path, cv2.IMREAD_UNCHANGED)
    picture = _pillow(data, path)
    if picture.mode not in ("1", "L", "P", "I") and not picture.mode.startswith("I;16"):
        mend = "Give a table of colours (colours: in the YAML), or store class ids in an 8-bit grey PNG."
        raise SpoiltFile("mask format", path, f"the mask stores colours (mode {picture.mode}), not class ids", mend)
    ids = np.array(picture)
    if header.format == "png" and header.colour == 0 and header.bits in (2, 4):
        ids //= 255 // (2**header.bits - 1)  # Pillow stretches grey of 2 and 4 bits over 0..255
    return ids.astype(np.uint8) if ids.dtype == bool else ids


def describe_counts(values: np.ndarray, limit: int = 8) -> str:
    """Return "12 (340 pixels), 77 (1 pixel)" for an array of offending values; at most ``limit`` of them."""
    found, counts = np.unique(values, return_counts=True)
    parts = [
        f"{v} ({n} pixel{'s' * (n != 1)})" for v, n in zip(found[:limit].tolist(), counts[:limit].tolist(), strict=True)
    ]
    return ", ".join(parts) + (f" and {len(found) - limit} more" if len(found) > limit else "")


def read_mask(path: str | Path, *, id_map: Mapping[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a mask to uint8 ``[H, W]``: the ids as stored (palette masks keep their indices), or through ``id_map``.

    Args:
        id_map: stored value to id; every value that occurs must be listed.

    Raises:
        SpoiltFile: as :func:`read_image`; a colour or JPEG mask; a value above 255 or not in ``id_map``.
    """
    data = read_bytes(path)
    ids = _stored_ids(data, path, inspect(data, path, max_pixels=max_pixels))
    if id_map is not None:
        return _mapped(ids, path, id_map)
    if ids.dtype != np.uint8:
        outside = ids[(ids < 0) | (ids > IGNORE)]
        if outside.size:
            what = f"the {ids.dtype.itemsize * 8}-bit mask holds values above 255: {describe_counts(outside)}"
            raise SpoiltFile("id out of range", path, what, "Map them with id_map in the YAML.")
        ids = ids.astype(np.uint8)
    return ids


def read_wide_mask(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a mask whose numbers go beyond 255 (instance ids) to ``[H, W]``: the integers as stored.

    Raises:
        SpoiltFile: as :func:`read_image`; a colour or JPEG mask.
    """
    data = read_bytes(path)
    return _stored_ids(data, path, inspect(data, path, max_pixels=max_pixels))


def _mapped(ids: np.ndarray, path: str | Path, id_map: Mapping[int, int]) -> np.ndarray:
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0 or highest > _LARGEST_RAW:
        what = f"the mask holds values from {lowest} to {highest}, which id_map cannot list"
        raise SpoiltFile("id out of range", path, what, "Is it a mask of class ids?")
    table = np.full(highest + 1, -1, np.int16)
    for raw, mapped in id_map.items():
        if 0 <= raw <= highest:
            table[raw] = mapped
    result = table[ids]
    if result.min() < 0:
        what = f"values that id_map does not list: {describe_counts(ids[result < 0])}"
        raise SpoiltFile("id out of range", path, what, "Add them to id_map, as an id or as ignore.")
    return result.astype(np.uint8)


@lru_cache(maxsize=4)
def _colour_table(palette: tuple[tuple[tuple[int, int, int], int], ...]) -> np.ndarray:
    """A table over all 2**24 colours (16 MiB): one look-up a pixel, however many colours there are."""
    table = np.full(1 << 24, _UNKNOWN_COLOUR, np.uint8)
    for (red, green, blue), number in palette:
        table[red | green << 8 | blue << 16] = number
    return table


def read_colour_mask(
    path: str | Path, palette: Mapping[tuple[int, int, int], int], *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode a mask that stores a colour for each class to uint8 ``[H, W]``; transparency is dropped.

    Args:
        palette: (red, green, blue) to id, 0..253 or 255.

    Raises:
        SpoiltFile: as :func:`read_image`; a JPEG; a colour that is not in ``palette``.
    """
    if any(not (0 <= number < _UNKNOWN_COLOUR or number == IGNORE) for number in palette.values()):
        raise ValueError("ids of colours are 0..253 or 255")
    data = read_bytes(path)
    header = inspect(data, path, max_pixels=max_pixels)
    if header.format == "jpeg":
        mend = "Save colour masks as PNG."
        raise SpoiltFile("mask format", path, "the mask is a JPEG, whose compression alters its colours", mend)
    colours = cv2.cvtColor(_rgb(data, path, header), cv2.COLOR_RGB2RGBA)
    codes = colours.view("<u4")[..., 0] & 0xFFFFFF
    ids = _colour_table(tuple(palette.items()))[codes]
    unknown = codes[ids == _UNKNOWN_COLOUR]
    if unknown.size:
        found, counts = np.unique(unknown, return_counts=True)
        first = np.argsort(-counts, kind="stable")[:5]
        names = ", ".join(
            f"({c & 255}, {c >> 8 & 255}, {c >> 16}) on {n} pixel{'s' * (n != 1)}"
            for c, n in zip(found[first].tolist(), counts[first].tolist(), strict=True)
        )
        more = f" and {len(found) - 5} colours more" if len(found) > 5 else ""
        what = f"colours that belong to no class: {names}{more}"
        raise SpoiltFile("unknown colour", path, what, "Add them to the table of colours, or mend the mask.")
    return ids
