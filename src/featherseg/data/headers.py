"""What an encoded image says of itself, read without decoding it, and whether its bytes are all there.

* The declared size is held against a limit before any pixel is unpacked (decompression bombs).
* Every PNG chunk is walked with its checksum and every JPEG segment up to the end marker. Decoders differ, between
  versions too, in how quietly they fill up what a truncated file lacks; this does not depend on them.
* Damage inside the compressed data of a JPEG that leaves its markers whole cannot be seen: the format has no checksum.
"""

import io
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from featherseg.errors import FeathersegError

MAX_PIXELS = 178_000_000
"""The default limit on width x height; about where Pillow draws its own line."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
# In entropy-coded data FF 00 is a stuffed byte, FF D0-D7 a restart and FF FF a fill: anything else is a marker.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class SpoiltFile(FeathersegError):
    """A file of a data set that cannot be used as it is; carries its parts so that reports can group them.

    ``kind`` is a short name of the fault ("truncated file"), ``where`` the file, ``what`` the finding and ``mend``
    the remedy; the message is all of them in one line.
    """

    def __init__(self, kind: str, where: str | Path, what: str, mend: str) -> None:
        self.kind, self.where, self.what, self.mend = kind, str(where), what, mend
        super().__init__(f"{where}: {what}. {mend}")

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        return type(self), (self.kind, self.where, self.what, self.mend)


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
        raise SpoiltFile("missing file", path, "no such file", "Copy it again, or leave it out.") from None
    except IsADirectoryError:
        raise SpoiltFile("unreadable file", path, "is a folder, not a file", "Give the path of a file.") from None
    except OSError as error:
        mend = "Check its permissions and the disk it lies on."
        raise SpoiltFile("unreadable file", path, f"cannot be read: {error.strerror}", mend) from error
    if not data:
        raise SpoiltFile("truncated file", path, "the file is empty (0 bytes)", "Copy it again, or leave it out.")
    return data


def damaged(kind: str, path: str | Path, what: str) -> SpoiltFile:
    """The fault of a file that lost or changed bytes."""
    return SpoiltFile(kind, path, what, "Copy it again, or leave it out.")


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
            raise damaged("corrupt file", path, f"corrupt PNG: chunk {name!r} at byte {position} fails its checksum")
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise damaged("corrupt file", path, "corrupt PNG: it does not begin with its header")
            header = struct.unpack_from(">IIBB", data, position + 8)
        transparent |= kind == b"tRNS"
        exif |= kind == b"eXIf"
        if kind == b"IEND":
            width, height, bits, colour = header
            return Header("png", width, height, bits, colour, transparent, exif)
        position = end
    raise damaged("truncated file", path, f"truncated PNG: it breaks off after {len(data)} bytes")


def _jpeg_header(data: bytes, path: str | Path) -> Header:
    truncated = damaged("truncated file", path, f"truncated JPEG: no end marker in its {len(data)} bytes")
    position, size, exif = len(_JPEG_START), None, False
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if position + 2 > len(data):
            raise truncated
        if data[position] != 0xFF:
            raise damaged("corrupt file", path, f"corrupt JPEG: no marker where one must be, at byte {position}")
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
        raise damaged("corrupt file", path, "corrupt JPEG: it holds no picture")
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
            raise too_large(path, str(error).split(",")[0]) from None
        except Exception:  # Pillow's many parsers raise many types
            mend = f"Give one of {', '.join(IMAGE_SUFFIXES)}, or copy the file again."
            raise SpoiltFile("corrupt file", path, "not an image that can be read", mend) from None
    if header.width * header.height > max_pixels:
        what = f"declares {header.width} x {header.height} pixels, more than the limit of {max_pixels:,}"
        raise too_large(path, what)
    if header.width * header.height == 0:
        raise damaged("corrupt file", path, f"declares {header.width} x {header.height} pixels")
    return header


def too_large(path: str | Path, what: str) -> SpoiltFile:
    """The fault of a file that declares more pixels than allowed."""
    return SpoiltFile("too large", path, what, "Scale it down or cut it up; it may be a decompression bomb.")
