"""Decoding: what is stored comes out, and every way a file can be spoilt is refused with its name."""

import contextlib
import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from featherseg.data.headers import SpoiltFile, read_bytes
from featherseg.data.images import image_size, read_colour_mask, read_image, read_mask

RELAXED = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def picture(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def saved(path: Path, array: np.ndarray, **options: Any) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def png_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def hand_made_png(width: int, height: int, bits: int, colour: int, rows: bytes = b"") -> bytes:
    """A PNG written by the letter of its specification, for the headers no encoder would write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_lossless_images_come_out_as_stored_in_rgb_order(tmp_path: Path, suffix: str):
    array = picture()
    np.testing.assert_array_equal(read_image(saved(tmp_path / f"a{suffix}", array)), array)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_images_come_out_close_and_in_rgb_order(tmp_path: Path, suffix: str):
    array = np.full((16, 16, 3), (200, 100, 20), np.uint8)
    read = read_image(saved(tmp_path / f"a{suffix}", array, quality=95)).astype(int)
    assert np.abs(read - array).max() <= 6


def test_grey_image_is_repeated_over_three_channels(tmp_path: Path):
    grey = picture()[..., 0]
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", grey)), np.dstack([grey] * 3))


def test_transparency_of_an_image_is_dropped(tmp_path: Path):
    rgba = np.dstack([picture(), np.full((24, 32), 7, np.uint8)])
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", rgba)), rgba[..., :3])


def test_palette_image_shows_its_colours(tmp_path: Path):
    indexed = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / "a.png")
    expected = [[(10, 20, 30), (40, 50, 60)], [(40, 50, 60), (70, 80, 90)]]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


def test_sixteen_bit_image_keeps_its_high_byte(tmp_path: Path):
    high = picture()
    cv2.imwrite(str(tmp_path / "a.png"), high[..., ::-1].astype(np.uint16) * 256)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), high)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_exif_orientation_is_honoured_once(
    tmp_path: Path, orientation: int, upright: Callable[[np.ndarray], np.ndarray], suffix: str
):
    array = np.kron(picture(2, 3), np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {"lossless": True}
    path = saved(tmp_path / f"a{suffix}", array, exif=exif, **options)
    expected = upright(array)
    read = read_image(path)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).max() <= (12 if suffix == ".jpg" else 0)
    assert image_size(path) == (expected.shape[1], expected.shape[0])


def test_damaged_exif_does_not_spoil_the_picture(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", picture(), exif=exif)
    path.write_bytes(
        path.read_bytes().replace(b"Exif\0\0MM\0*", b"Exif\0\0QQ\0*").replace(b"Exif\0\0II*", b"Exif\0\0QQ*")
    )
    assert read_image(path).shape == (24, 32, 3)


@given(data=st.data(), suffix=st.sampled_from([".webp", ".bmp", ".tif", ".ppm", ".gif"]))
@RELAXED
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_spoilt_file_of_any_format_gives_a_picture_or_a_message(tmp_path: Path, data: st.DataObject, suffix: str):
    path = saved(tmp_path / f"a{suffix}", picture(8, 8))
    spoilt = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(spoilt[: data.draw(st.integers(1, len(spoilt)))])
    for reader in (read_image, read_mask):
        with contextlib.suppress(SpoiltFile):
            assert reader(path).dtype == np.uint8


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SpoiltFile, match=r"gone\.png: no such file") as caught:
        read_image(tmp_path / "gone.png")
    assert caught.value.kind == "missing file"


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    with pytest.raises(SpoiltFile, match="is a folder"):
        read_image(tmp_path)


def test_unreadable_file_gives_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, os.strerror(13))

    path = saved(tmp_path / "a.png", picture())
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SpoiltFile, match=r"a\.png: cannot be read: Permission denied"):
        read_bytes(path)


def test_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "a.png").touch()
    with pytest.raises(SpoiltFile, match="0 bytes"):
        read_image(tmp_path / "a.png")


def test_text_posing_as_an_image_is_refused(tmp_path: Path):
    (tmp_path / "a.png").write_text("<html>404</html>")
    with pytest.raises(SpoiltFile, match="not an image"):
        read_image(tmp_path / "a.png")


@given(cut=st.floats(0, 1, exclude_max=True))
@RELAXED
def test_png_truncated_anywhere_is_refused(tmp_path: Path, cut: float):
    whole = png_bytes(picture())
    (tmp_path / "a.png").write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(SpoiltFile, match=r"a\.png: "):
        read_image(tmp_path / "a.png")


@given(cut=st.floats(0, 1, exclude_max=True), progressive=st.booleans())
@RELAXED
def test_jpeg_truncated_anywhere_is_refused(tmp_path: Path, cut: float, progressive: bool):
    path = saved(tmp_path / "a.jpg", picture(), progressive=progressive, restart_marker_blocks=2)
    whole = path.read_bytes()
    assert read_image(path).shape == (24, 32, 3)
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(SpoiltFile, match=r"a\.jpg: "):
        read_image(path)


def test_jpeg_whose_thumbnail_alone_is_whole_is_truncated(tmp_path: Path):
    """The end marker of an embedded thumbnail is not the picture's."""
    thumbnail = saved(tmp_path / "small.jpg", picture(8, 8)).read_bytes()
    whole = saved(tmp_path / "a.jpg", picture()).read_bytes()
    segment = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    (tmp_path / "a.jpg").write_bytes(whole[:2] + segment + whole[2:-40])
    with pytest.raises(SpoiltFile, match="truncated JPEG"):
        read_image(tmp_path / "a.jpg")


@given(data=st.data())
@RELAXED
def test_png_with_a_changed_byte_never_gives_other_pixels(tmp_path: Path, data: st.DataObject):
    array = picture()
    spoilt = bytearray(png_bytes(array))
    position = data.draw(st.integers(0, len(spoilt) - 1))
    spoilt[position] ^= data.draw(st.integers(1, 255))
    (tmp_path / "a.png").write_bytes(spoilt)
    with pytest.raises(SpoiltFile):
        read_image(tmp_path / "a.png")


@given(junk=st.binary(min_size=1, max_size=200), start=st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"]))
@RELAXED
def test_junk_is_refused_whatever_it_begins_with(tmp_path: Path, junk: bytes, start: bytes):
    (tmp_path / "a.png").write_bytes(start + junk)
    with pytest.raises(SpoiltFile):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("reader", [read_image, read_mask])
def test_decompression_bomb_is_refused_by_its_header(tmp_path: Path, reader: Callable[[Path], np.ndarray]):
    (tmp_path / "a.png").write_bytes(hand_made_png(60_000, 60_000, 8, 0))
    with pytest.raises(SpoiltFile, match=r"a\.png: declares 60000 x 60000 pixels, more than the limit of 178,000,000"):
        reader(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_pixel_limit_is_an_argument_and_is_inclusive(tmp_path: Path, suffix: str):
    path = saved(tmp_path / f"a{suffix}", picture(10, 10))
    assert read_image(path, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(SpoiltFile, match="10 x 10 pixels"):
        read_image(path, max_pixels=99)


def test_png_without_pixels_is_refused(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(hand_made_png(0, 5, 8, 0))
    with pytest.raises(SpoiltFile, match="0 x 5"):
        read_image(tmp_path / "a.png")


@given(ids=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
@RELAXED
def test_grey_mask_comes_out_as_stored(tmp_path: Path, ids: np.ndarray):
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.png", ids)), ids)


def test_palette_mask_keeps_its_indices(tmp_path: Path):
    ids = np.random.default_rng(0).integers(0, 12, (9, 7), np.uint8)
    indexed = Image.fromarray(ids, "P")
    indexed.putpalette([200 - i for i in range(36)])
    indexed.save(tmp_path / "a.png")
    read = read_mask(tmp_path / "a.png")
    np.testing.assert_array_equal(read, ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colour", [0, 3])
def test_mask_of_few_bits_keeps_its_ids(tmp_path: Path, bits: int, colour: int):
    top = 2**bits - 1
    row = [0, top, 1, top - 1] * 2
    packed = int("".join(f"{v:0{bits}b}" for v in row), 2).to_bytes(bits, "big")
    content = hand_made_png(8, 1, bits, colour, b"\0" + packed)
    if colour == 3:
        plte = b"PLTE" + bytes(range(3 * 2**bits))
        chunk = struct.pack(">I", len(plte) - 4) + plte + struct.pack(">I", zlib.crc32(plte))
        content = content[:33] + chunk + content[33:]
    (tmp_path / "a.png").write_bytes(content)
    assert read_mask(tmp_path / "a.png").tolist() == [row]


def test_grey_mask_with_a_transparent_value_keeps_its_ids(tmp_path: Path):
    ids = np.array([[0, 1, 2]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "a.png", transparency=1)
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 1, 2]]


def test_sixteen_bit_mask_of_small_ids_is_accepted(tmp_path: Path):
    ids = np.array([[0, 10], [255, 3]], np.uint16)
    read = read_mask(saved(tmp_path / "a.png", ids))
    assert read.dtype == np.uint8
    assert read.tolist() == [[0, 10], [255, 3]]


def test_sixteen_bit_mask_of_large_ids_is_refused_with_the_values(tmp_path: Path):
    ids = np.array([[0, 7000], [7000, 256]], np.uint16)
    with pytest.raises(SpoiltFile, match=r"a\.png: .*256 \(1 pixel\), 7000 \(2 pixels\).*id_map"):
        read_mask(saved(tmp_path / "a.png", ids))


def test_sixteen_bit_mask_goes_through_an_id_map(tmp_path: Path):
    ids = np.array([[0, 7000], [33, 7000]], np.uint16)
    read = read_mask(saved(tmp_path / "a.png", ids), id_map={0: 255, 7000: 1, 33: 0})
    assert read.tolist() == [[255, 1], [0, 1]]
    assert read.dtype == np.uint8


def test_value_that_the_id_map_does_not_list_is_named(tmp_path: Path):
    with pytest.raises(SpoiltFile, match=r"id_map does not list: 9 \(1 pixel\)"):
        read_mask(saved(tmp_path / "a.png", np.array([[0, 9]], np.uint8)), id_map={0: 0})


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (4, "RGBA"), (2, "LA")])
def test_colour_mask_is_refused_without_a_table(tmp_path: Path, channels: int, mode: str):
    path = saved(tmp_path / "a.png", np.zeros((4, 4, channels), np.uint8))
    with pytest.raises(SpoiltFile, match=rf"a\.png: the mask stores colours \(mode {mode}\)"):
        read_mask(path)


@pytest.mark.parametrize("reader", [read_mask, lambda path: read_colour_mask(path, {(0, 0, 0): 0})])
def test_jpeg_mask_is_refused(tmp_path: Path, reader: Callable[[Path], np.ndarray]):
    with pytest.raises(SpoiltFile, match="is a JPEG"):
        reader(saved(tmp_path / "a.jpg", np.zeros((8, 8), np.uint8)))


@given(
    palette=st.dictionaries(
        st.tuples(*[st.integers(0, 255)] * 3), st.sampled_from([*range(12), 253, 255]), min_size=1, max_size=12
    ),
    seed=st.integers(0, 99),
)
@settings(RELAXED, max_examples=10)
def test_colour_mask_gives_the_id_of_each_colour(tmp_path: Path, palette: dict[tuple[int, int, int], int], seed: int):
    colours = list(palette)
    chosen = np.random.default_rng(seed).integers(0, len(colours), (5, 6))
    path = saved(tmp_path / "a.png", np.array(colours, np.uint8)[chosen])
    expected = [[palette[colours[i]] for i in row] for row in chosen]
    assert read_colour_mask(path, palette).tolist() == expected


def test_unknown_colour_is_named_with_its_count_and_file(tmp_path: Path):
    array = np.zeros((4, 4, 3), np.uint8)
    array[0, :3] = (1, 2, 3)
    with pytest.raises(SpoiltFile, match=re.escape("a.png: colours that belong to no class: (1, 2, 3) on 3 pixels")):
        read_colour_mask(saved(tmp_path / "a.png", array), {(0, 0, 0): 0})


def test_transparency_of_a_colour_mask_is_dropped(tmp_path: Path):
    array = np.array([[(1, 2, 3, 0), (4, 5, 6, 255)]], np.uint8)
    assert read_colour_mask(saved(tmp_path / "a.png", array), {(1, 2, 3): 5, (4, 5, 6): 255}).tolist() == [[5, 255]]
