"""Where the frames of a stream come from: video files and cameras, by OpenCV.

Choices worth knowing:

- Of a file every frame that can be decoded comes, in order and once. OpenCV has one answer for a frame that cannot be
  and for the end, or it passes over the frame and says nothing. So we ask on until many in a row have failed, and
  compare the number of frames with what the file speaks of.
- MP4 and AVI count their frames, so that none can be missing unseen. Matroska, WebM, FLV and WMV say how long they are,
  which tells of a cut and of many lost frames, not of one. Transport and program streams (.ts, .mpg) say nothing.
- A camera is ``camera:0``, ``camera:/dev/video2`` or an address that OpenCV's driver takes, ``camera:rtsp://...``. Its
  frames carry the time at which they were taken; it has no end.
- A source may be closed while another thread still reads it: it is let go of between two reads, and not at all where a
  read does not return, since OpenCV would take the program down.
- A file is opened by its whole path and as a file, since FFmpeg would take a name with a colon for an address.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import cv2
import numpy as np

from featherseg.errors import FeathersegError

CAMERA = "camera:"
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts")
USUAL_RATE = 25.0
"""Frames a second where a source does not say, or says what cannot be."""

_COUNTED = (".mp4", ".mov", ".m4v", ".avi")  # of others the number of frames is reckoned from the length

_LAST_READ = 1.0
"""Seconds that a read may still take when its source is closed."""

_END = 10_000
"""Frames in a row that could not be read, after which a file is taken to be at its end."""

# Read when FFmpeg is first used. What it says of damaged frames nobody can act on; we say how many there were.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# OpenCV itself has a line for every frame that a full disk does not take.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a stream: its number from 0, the second it was taken at, and uint8 RGB ``[H, W, 3]``."""

    number: int
    seconds: float
    image: np.ndarray


class Source(Protocol):
    """Where frames come from.

    Attributes:
        name: in messages.
        live: whether it goes on without waiting, so that frames may have to be dropped.
        rate: frames a second.
        frames_said: how many it says it has; None where it does not say.
        counted: whether that is their very number, so that none can be missing without a :meth:`doubt`.
    """

    name: str
    live: bool
    rate: float
    frames_said: int | None
    counted: bool

    def frames(self) -> Iterator[Frame]:
        """Every frame; called once, in the thread that reads."""
        ...

    def doubt(self, frames: int) -> str | None:
        """What is strange about a source that ended after so many frames; None where nothing is."""
        ...

    def close(self) -> None:
        """Let go of the file or the camera."""
        ...


def is_stream(argument: str | Path) -> bool:
    """Whether an argument is a video file, by its suffix, or a camera."""
    place = Path(argument)
    return str(argument).startswith(CAMERA) or (place.suffix.lower() in VIDEO_SUFFIXES and not place.is_dir())


def open_source(argument: str | Path) -> "VideoFile | Camera":
    """The source that an argument of the command line stands for.

    Raises:
        FeathersegError: there is no such file or camera, or the file is no video.
    """
    text = str(argument)
    return Camera(text.removeprefix(CAMERA)) if text.startswith(CAMERA) else VideoFile(argument)


class VideoFile:
    """A video in a file; see :class:`Source`.

    Raises:
        FeathersegError: no such file, or none that OpenCV can decode.
    """

    live = False

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        place = Path(path)
        if not place.is_file():
            kind = "is a folder" if place.is_dir() else "there is no such file"
            raise FeathersegError(f"{path}: {kind}. Give a video file.")
        with quiet():
            self._capture = cv2.VideoCapture(str(place.resolve()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise FeathersegError(
                f"{path}: no video that can be decoded; it is damaged, cut short (an .mp4 has its index at its "
                "end), or of another kind. Copy it again, or convert it with another program."
            )
        self.rate = usable_rate(self._capture.get(cv2.CAP_PROP_FPS))
        said = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames_said = int(said) if 0 < said < 2**40 else None
        self.counted = self.frames_said is not None and place.suffix.lower() in _COUNTED and not _in_fragments(place)
        self._unreadable = 0
        self._reading = Lock()

    def frames(self) -> Iterator[Frame]:
        """Every frame that can be decoded."""
        number = failures = 0
        while failures < _END:
            with self._reading:
                there, picture = self._capture.read()
            if not there:
                failures += 1
                continue
            self._unreadable, failures = self._unreadable + failures, 0
            yield Frame(number, number / self.rate, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            number += 1

    def doubt(self, frames: int) -> str | None:
        """Whether frames are missing. A number that is reckoned from the length may be two in a hundred out."""
        said = self.frames_said
        if said is not None and frames < (said if self.counted else 0.98 * said - 1):
            about = "" if self.counted else "about "
            found = f"{frames:,} of {about}{said:,} frames could be read: the file is damaged or cut short"
        elif self._unreadable:
            found = f"{frames:,} frames could be read and {self._unreadable:,} between them could not"
        else:
            return None
        return f"{self.name}: {found}. Those are kept."

    def close(self) -> None:
        """Let go of the file."""
        _release(self._capture, self._reading)


class Camera:
    """A camera; see :class:`Source`.

    Args:
        which: its number, its device file, or an address.
        clock: seconds, from anywhere.

    Raises:
        FeathersegError: there is no such camera.
    """

    live = True
    frames_said: int | None = None
    counted = False

    def __init__(self, which: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = f"{CAMERA}{which}"
        self._clock = clock
        if not which:
            raise FeathersegError(f"{CAMERA}: which camera? The first is {CAMERA}0.")
        with quiet():
            self._capture = cv2.VideoCapture(int(which) if which.isdigit() else which)
        if not self._capture.isOpened():
            devices = sorted(str(device) for device in Path("/dev").glob("video*"))
            there = f"There are: {', '.join(devices)}" if devices else "The system shows none"
            raise FeathersegError(
                f"{self.name}: there is no such camera, or another program uses it. {there}. The first is {CAMERA}0."
            )
        # One frame in the driver, where it can be asked for: those that wait there are old when they come.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.rate = usable_rate(self._capture.get(cv2.CAP_PROP_FPS))
        self._reading = Lock()

    def frames(self) -> Iterator[Frame]:
        """Frames as they are taken, until the camera gives no more."""
        began = self._clock()
        number = 0
        while True:
            with self._reading:
                if not self._capture.grab():
                    return
                taken = self._clock() - began
                decoded, picture = self._capture.retrieve()
            if not decoded:
                continue
            yield Frame(number, taken, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            number += 1

    def doubt(self, frames: int) -> str | None:
        """A camera that ends by itself has gone."""
        return f"{self.name}: gave no further frame after {frames:,}. Is it still connected?"

    def close(self) -> None:
        """Let go of the camera."""
        _release(self._capture, self._reading)


def _release(capture: cv2.VideoCapture, reading: Lock) -> None:
    if reading.acquire(timeout=_LAST_READ):
        try:
            capture.release()
        finally:
            reading.release()


def usable_rate(rate: float) -> float:
    """Frames a second as a file can have them; :data:`USUAL_RATE` for what drivers say that do not know."""
    return float(rate) if 0.1 <= rate <= 1000 else USUAL_RATE


def _in_fragments(path: Path) -> bool:
    """Whether a file holds an MP4's fragments (ISO/IEC 14496-12, 8.8), whose frames no index counts."""
    with path.open("rb") as file:
        while len(head := file.read(16)) >= 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if kind == b"moof":
                return True
            if size == 1:  # the size is a long one, and follows
                size = int.from_bytes(head[8:], "big")
            if size < 8:
                return False
            file.seek(size - len(head), os.SEEK_CUR)
    return False


@contextmanager
def quiet() -> Iterator[None]:
    """Let OpenCV and FFmpeg say nothing on stderr; the errors we raise say it better.

    What FFmpeg prints when a file is opened it prints past every setting, hence the system's own stream is turned away.
    """
    silenced = os.open(os.devnull, os.O_WRONLY)
    kept = os.dup(2)
    try:
        os.dup2(silenced, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silenced)
