"""Grey PNGs decoded by compiled loops hold what Pillow and OpenCV find in them."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featherseg.data import grey_png
from featherseg.data.grey_png import read_grey_png
from featherseg.data.images import read_wide_mask
from featherseg.errors import FeathersegError


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def grey_file(rows: bytes, height: int, width: int, bits: int, cut: int = 1) -> bytes:
    """A PNG of filtered rows, its picture in ``cut`` chunks."""
    packed = zlib.compress(rows)
    step = len(packed) // cut + 1
    parts = [chunk(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), step)]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(parts) + chunk(b"IEND", b"")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    depth=st.sampled_from([1, 2]),
    cut=st.integers(1, 3),
    data=st.data(),
)
def test_every_filter_is_undone_as_pillow_does(tmp_path_factory, height, width, depth, cut, data) -> None:
    kinds = data.draw(st.lists(st.integers(0, 4), min_size=height, max_size=height))
    content = data.draw(st.binary(min_size=height * width * depth, max_size=height * width * depth))
    row = width * depth
    rows = b"".join(bytes([kind]) + content[y * row : (y + 1) * row] for y, kind in enumerate(kinds))
    path = tmp_path_factory.mktemp("grey") / "a.png"
    path.write_bytes(grey_file(rows, height, width, 8 * depth, cut))
    found = read_grey_png(path)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(found, np.array(picture))
    assert found.dtype == (np.uint8 if depth == 1 else np.uint16)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_files_of_opencv_are_read_by_the_compiled_loops(tmp_path: Path, kind: type, monkeypatch) -> None:
    monkeypatch.setattr(grey_png, "read_wide_mask", pytest.fail)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, (33, 47)).astype(kind)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    np.testing.assert_array_equal(read_grey_png(tmp_path / "a.png"), pixels)


def palette(path: Path) -> None:
    picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4), "P")
    picture.putpalette(list(range(36)))
    picture.save(path)


def one_bit(path: Path) -> None:
    Image.fromarray(np.eye(5, dtype=bool)).save(path)


def interlaced(path: Path) -> None:
    """Adam7 of a single pixel is that pixel."""
    data = bytearray(grey_file(b"\x00\x07", 1, 1, 8))
    data[28] = 1
    path.write_bytes(bytes(data[:29]) + struct.pack(">I", zlib.crc32(bytes(data[12:29]))) + bytes(data[33:]))


@pytest.mark.parametrize("write", [palette, one_bit, interlaced])
def test_what_is_no_plain_grey_png_is_read_as_ever(tmp_path: Path, write) -> None:
    write(tmp_path / "a.png")
    np.testing.assert_array_equal(read_grey_png(tmp_path / "a.png"), read_wide_mask(tmp_path / "a.png"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        grey_file(b"\x05\x01\x02", 1, 2, 8),
        grey_file(b"\x00\x01", 1, 2, 8),
        grey_file(b"\x00" * 3, 1, 2, 8).replace(b"IDAT", b"IDAX"),
    ],
    ids=["empty", "text", "filter", "short", "chunk"],
)
def test_spoilt_files_are_refused_as_ever(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FeathersegError, match=r"a\.png"):
        read_grey_png(tmp_path / "a.png")
