"""Videos for tests: each frame says its number by its colour, coarsely enough for any codec."""

from pathlib import Path

import cv2
import numpy as np

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".webm": "VP80"}


def number_frame(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """RGB: six blocks, each black or white, a digit of the number in base two each."""
    bits = [(number >> bit) & 1 for bit in range(6)]
    height, width = size
    blocks = np.array(bits, np.uint8).reshape(2, 3) * 255
    return blocks.repeat(-(-height // 2), 0).repeat(-(-width // 3), 1)[:height, :width, None].repeat(3, 2)


def number_of(picture: np.ndarray, size: tuple[int, int] = (48, 64)) -> int:
    """What :func:`number_frame` drew, read from the middles of the blocks of the upper left ``size`` of a picture."""
    height, width = size
    rows, columns = [height // 4, 3 * height // 4], [width // 6, width // 2, 5 * width // 6]
    bits = (picture[np.ix_(rows, columns)].mean(-1) > 127).ravel()
    return int(sum(int(bit) << place for place, bit in enumerate(bits)))


def write_clip(path: Path, frames: int = 12, size: tuple[int, int] = (48, 64), rate: float = 10.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter_fourcc(*CODECS[path.suffix])  # type: ignore[attr-defined]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, rate, size[::-1])
    assert writer.isOpened()
    for number in range(frames):
        writer.write(number_frame(number, size))
    writer.release()
    return path


def read_clip(path: Path) -> list[np.ndarray]:
    """RGB frames."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    found = []
    while True:
        there, picture = capture.read()
        if not there:
            return found
        found.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
