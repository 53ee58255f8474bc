"""Decoding of images and masks that trusts no file.

* The header and the structure are read before anything is decoded: declared size against a pixel limit
  (decompression bombs), every PNG chunk with its checksum, every JPEG segment up to the end marker. Decoders differ,
  between versions too, in how quietly they fill up what a truncated file lacks; this check does not depend on them.
  Damage inside the compressed data of a JPEG that leaves its markers whole cannot be seen: the format has no checksum.
* OpenCV decodes ordinary JPEG and PNG for speed. Everything whose stored numbers it would change (palette PNG, grey of
  1, 2, 4 or 16 bits, transparency) goes through Pillow.
* A mask gives the ids as stored. Colour masks are refused unless a table of colours is given, and JPEG masks are
  refused always, since lossy compression invents ids along every edge.
"""

import io
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from featherseg.data.labels import IGNORE
from featherseg.errors import FeathersegError

MAX_PIXELS = 178_000_000
"""The default limit on width x height; about where Pillow draws its own line."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
# In entropy-coded data FF 00 is a stuffed byte, FF D0-D7 a restart and FF FF a fill: anything else is a marker.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_EXIF_ORIENTATION = 0x0112
_UNKNOWN_COLOUR = 254


class SpoiltFile(FeathersegError):
    """A file of a data set that cannot be used as it is; carries its parts so that reports can group them.

    ``kind`` is a short name of the fault ("truncated file"), ``where`` the file, ``what`` the finding and ``mend``
    the remedy; the message is all of them in one line.
    """

    def __init__(self, kind: str, where: str | Path, what: str, mend: str) -> None:
        self.kind, self.where, self.what, self.mend = kind, str(where), what, mend
        super().__init__(f"{where}: {what}. {mend}")


@dataclass(frozen=True)
class Header:
    """What a file says of itself before it is decoded. ``bits`` and ``colour`` are set for PNG only."""

    format: str  # "png", "jpeg" or "other"
    width: int
    height: int
    bits: int = 8
    colour: int = 0  # PNG colour type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA
    transparent: bool = False
    exif: bool = False


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file. Raises SpoiltFile when it is missing, not a file, unreadable or empty."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SpoiltFile("missing file", path, "no such file", "Restore it or take it off the list.") from None
    except IsADirectoryError:
        raise SpoiltFile("unreadable file", path, "is a folder, not a file", "Give the path of a file.") from None
    except OSError as error:
        mend = "Check its permissions and the disk it lies on."
        raise SpoiltFile("unreadable file", path, f"cannot be read: {error.strerror}", mend) from error
    if not data:
        raise SpoiltFile("truncated file", path, "the file is empty (0 bytes)", "Copy or download it again.")
    return data


def _damaged(kind: str, path: str | Path, what: str) -> SpoiltFile:
    return SpoiltFile(kind, path, what, "Copy or download it again, or remove it with its partner.")


def _png_header(data: bytes, path: str | Path) -> Header:
    view, position, header, transparent, exif = memoryview(data), len(_PNG_SIGNATURE), None, False, False
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[position + 4 : end - 4]) != checksum:
            name = kind.decode("latin-1")
            raise _damaged("corrupt file", path, f"corrupt PNG: chunk {name!r} at byte {position} fails its checksum")
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise _damaged("corrupt file", path, "corrupt PNG: it does not begin with its header")
            header = struct.unpack_from(">IIBB", data, position + 8)
        transparent |= kind == b"tRNS"
        exif |= kind == b"eXIf"
        if kind == b"IEND":
            width, height, bits, colour = header
            return Header("png", width, height, bits, colour, transparent, exif)
        position = end
    raise _damaged("truncated file", path, f"truncated PNG: it breaks off after {len(data)} bytes")


def _jpeg_header(data: bytes, path: str | Path) -> Header:
    truncated = _damaged("truncated file", path, f"truncated JPEG: no end marker in its {len(data)} bytes")
    position, size, exif = len(_JPEG_START), None, False
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if position + 2 > len(data):
            raise truncated
        if data[position] != 0xFF:
            raise _damaged("corrupt file", path, f"corrupt JPEG: no marker where one must be, at byte {position}")
        marker = data[position + 1]
        position += 2
        if marker == 0xD9:
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        if position + 2 > len(data):
            raise truncated
        (length,) = struct.unpack_from(">H", data, position)
        if position + length > len(data):
            raise truncated
        if marker in _JPEG_FRAMES and size is None and length >= 8:
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = width, height
        exif |= marker == 0xE1 and data[position + 2 : position + 6] == b"Exif"
        position += length
        if marker == 0xDA:
            found = _JPEG_MARKER.search(data, position)
            if found is None:
                raise truncated
            position = found.start()
    if size is None:
        raise _damaged("corrupt file", path, "corrupt JPEG: it holds no picture")
    return Header("jpeg", *size, exif=exif)


def inspect(data: bytes, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read the header of an encoded image and walk its structure, decoding nothing.

    Raises:
        SpoiltFile: no image, truncated, corrupt, without area, or of more than ``max_pixels`` pixels.
    """
    if data.startswith(_PNG_SIGNATURE):
        header = _png_header(data, path)
    elif data.startswith(_JPEG_START):
        header = _jpeg_header(data, path)
    else:
        try:
            with Image.open(io.BytesIO(data)) as picture:
                header = Header("other", *picture.size, exif=True)
        except Image.DecompressionBombError as error:
            raise _too_large(path, str(error).split(",")[0]) from None
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
            mend = f"Give one of {', '.join(IMAGE_SUFFIXES)}, or copy the file again."
            raise SpoiltFile("corrupt file", path, "not an image that can be read", mend) from None
    if header.width * header.height > max_pixels:
        what = f"declares {header.width} x {header.height} pixels, more than the limit of {max_pixels:,}"
        raise _too_large(path, what)
    if header.width * header.height == 0:
        raise _damaged("corrupt file", path, f"declares {header.width} x {header.height} pixels")
    return header


def _too_large(path: str | Path, what: str) -> SpoiltFile:
    return SpoiltFile("too large", path, what, "Scale it down or cut it up; it may be a decompression bomb.")


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (width, height) as :func:`read_image` would give them, without decoding."""
    data = read_bytes(path)
    header = inspect(data, path)
    return (header.height, header.width) if _orientation(data, header) >= 5 else (header.width, header.height)


def _orientation(data: bytes, header: Header) -> int:
    if not header.exif:
        return 1
    with Image.open(io.BytesIO(data)) as picture:
        return picture.getexif().get(_EXIF_ORIENTATION, 1)


def _pillow(data: bytes, path: str | Path) -> Image.Image:
    """Decode strictly with Pillow."""
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error).split(",")[0]) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise _damaged("corrupt file", path, f"cannot be decoded ({error})") from None
    return picture


def _opencv(data: bytes, path: str | Path, flags: int) -> np.ndarray:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _damaged("corrupt file", path, f"cannot be decoded ({error.err})") from None
    if picture is None:
        raise _damaged("corrupt file", path, "cannot be decoded")
    return picture


def _rgb(data: bytes, path: str | Path, header: Header) -> np.ndarray:
    if header.format == "other" or _orientation(data, header) != 1:
        picture = ImageOps.exif_transpose(_pillow(data, path))
        if picture.mode.startswith(("I", "F")):
            raise SpoiltFile(
                "image format", path, f"stores pixels of mode {picture.mode}", "Convert it to 8-bit grey or RGB."
            )
        return np.array(picture.convert("RGB"))
    picture = _opencv(data, path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image to uint8 ``[H, W, 3]`` RGB, upright by its EXIF orientation.

    Grey is repeated over the three channels, 16-bit PNGs keep their high byte, transparency is dropped.

    Raises:
        SpoiltFile: missing, unreadable, truncated, corrupt, or of more than ``max_pixels`` pixels.
    """
    data = read_bytes(path)
    return _rgb(data, path, inspect(data, path, max_pixels=max_pixels))


def _stored_ids(data: bytes, path: str | Path, header: Header) -> np.ndarray:
    """Return the numbers a mask stores, in whatever integer type they need."""
    if header.format == "jpeg":
        mend = "Save masks as PNG; where only the JPEG exists, threshold it back to clean ids first."
        raise SpoiltFile("mask format", path, "the mask is a JPEG, whose compression alters ids at every edge", mend)
    if header.format == "png" and header.colour == 0 and header.bits == 8 and not header.transparent:
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
    parts = [f"{v} ({n} pixel{'s' * (n != 1)})" for v, n in zip(found[:limit], counts[:limit], strict=True)]
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


def _mapped(ids: np.ndarray, path: str | Path, id_map: Mapping[int, int]) -> np.ndarray:
    top = max(int(ids.max()), max(id_map, default=0)) if ids.min() >= 0 else -1
    if top < 0 or top > 0xFFFFF:
        raise SpoiltFile(
            "id out of range", path, f"the mask holds values from {ids.min()} to {ids.max()}", "Is it a mask of ids?"
        )
    table = np.full(top + 1, -1, np.int16)
    for raw, mapped in id_map.items():
        if raw >= 0:
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
