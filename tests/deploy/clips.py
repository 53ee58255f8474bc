"""Videos for tests: each frame says its number by its colour, coarsely enough for any codec; and what labels them."""

from pathlib import Path

import cv2
import numpy as np

from featherseg.data.labels import LabelSet
from featherseg.deploy.segmentation import Segmentation

CODECS = {".avi": "MJPG", ".webm": "VP80", ".mpg": "MPG1"} | dict.fromkeys((".mp4", ".mov", ".mkv", ".ts"), "mp4v")


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


class Threshold:
    """Labels dark and light pixels; a class of its own colour, so that an overlay shows the number again."""

    labels = LabelSet("two", ("black", "white"), ((0, 0, 0), (255, 255, 255)))

    def __init__(self, until: int | None = None, error: BaseException | None = None) -> None:
        self.seen: list[int] = []
        self.until, self.error = until, error

    def predict(self, image: np.ndarray) -> Segmentation:
        if len(self.seen) == self.until and self.error is not None:
            raise self.error
        self.seen.append(number_of(image, image.shape[:2]))
        return Segmentation((image[..., 0] > 127).astype(np.uint8), self.labels, image)
