"""Videos that are either whole and playable, or not there.

Choices worth knowing:

- A video is written under a hidden name, its pictures are counted there, and only then is it given its own: however the
  stream ends, nothing lies under the final name that no player takes.
- OpenCV does not say when a disk is full. So before each picture we look whether there is room for it and for what
  closing needs; when there is none, the video is closed while it can be.
- A quota or a limit of file sizes does not show before. A video that came up to one cannot be closed: of an mkv, avi or
  webm that which fits can be read all the same, an mp4 or mov is lost, since its index is written last.
- Pictures are counted by reading the file, without decoding it: what it says of itself is written when it is closed.
- Codecs are those that the OpenCV wheels can write: MPEG-4 Part 2 for mp4, mov, mkv and avi, VP8 for webm, the one that
  browsers play. Ids are FFV1 in mkv, which loses nothing.
- Codecs want even sides: a picture is continued by a row or a column, and ids by 255.
"""

import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np

from featherseg.data.labels import IGNORE
from featherseg.deploy.video import quiet
from featherseg.errors import FeathersegError, nearest

CODECS = {"mp4": "mp4v", "mkv": "mp4v", "mov": "mp4v", "avi": "XVID", "webm": "VP80"}
IDS_SUFFIX, _IDS_CODEC = ".mkv", "FFV1"
_INDEX_BYTES = 64
"""More than any of these containers keeps of a frame until it is closed."""

_SPARE_BYTES = 2**22


class NoRoom(FeathersegError):
    """The disk is full; what was written before can still be kept."""


class VideoSink:
    """A video that is being written.

    Args:
        path: the final name; its suffix is one of :data:`CODECS`.
        size: (H, W) of the pictures.
        rate: frames a second.
        ids: the pictures are ids uint8 ``[H, W]``, to be kept exactly, instead of RGB ``[H, W, 3]``.

    Attributes:
        frames: how many pictures were written.
        kept: how many of them can be read from the closed video.

    Raises:
        FeathersegError: the folder cannot be written, or the video cannot be encoded.
    """

    def __init__(self, path: str | Path, size: tuple[int, int], rate: float, *, ids: bool = False) -> None:
        self.path, self.size, self.frames, self.kept = Path(path), size, 0, 0
        self._ids, self._closed = ids, False
        self._down, self._across = size[0] % 2, size[1] % 2
        sides = (size[1] + self._across, size[0] + self._down)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(f".tmp{self.path.suffix}", f".{self.path.stem}.", self.path.parent)
            os.fchmod(handle, 0o644)
            os.close(handle)
        except OSError as error:
            raise FeathersegError(
                f"{self.path}: could not be written: {error.strerror}. Choose a folder that you may write to."
            ) from None
        self._hidden = Path(name).resolve()
        codec = cv2.VideoWriter_fourcc(*(_IDS_CODEC if ids else CODECS[self.path.suffix[1:]]))  # type: ignore[attr-defined]
        with quiet():
            self._writer = cv2.VideoWriter(str(self._hidden), cv2.CAP_FFMPEG, codec, rate, sides, not ids)
        if not self._writer.isOpened():
            self.discard()
            raise FeathersegError(
                f"{self.path}: this OpenCV cannot encode {self.path.suffix[1:]} at {size[1]}x{size[0]} and {rate:g} "
                f"frames a second. Try another container: {', '.join(CODECS)}."
            )

    def write(self, picture: np.ndarray) -> None:
        """Add a picture; one of another size is resized.

        Raises:
            NoRoom: the disk is full.
        """
        needed = 2 * picture.nbytes + _INDEX_BYTES * self.frames + _SPARE_BYTES
        if shutil.disk_usage(self.path.parent).free < needed:
            raise NoRoom(
                f"{self.path}: no space left on the device after {self.frames:,} frames. Free some space or choose "
                "another folder."
            )
        if picture.shape[:2] != self.size:
            how = cv2.INTER_NEAREST if self._ids else cv2.INTER_LINEAR
            picture = cv2.resize(picture, self.size[::-1], interpolation=how)
        stored = picture if self._ids else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        if self._down or self._across:
            how = cv2.BORDER_CONSTANT if self._ids else cv2.BORDER_REPLICATE
            stored = cv2.copyMakeBorder(stored, 0, self._down, 0, self._across, how, value=[IGNORE])
        self._writer.write(stored)
        self.frames += 1

    def close(self) -> None:
        """Take no further picture, and count those that can be read; the name stays hidden."""
        if not self._closed:
            with quiet():
                self._writer.release()
                self.kept = min(_frames_in(self._hidden), self.frames)
            self._closed = True

    def finish(self) -> Path:
        """Close the video and give it its name.

        Raises:
            FeathersegError: what was written cannot be played, or has lost frames; a file that can be played is kept
                all the same.
        """
        try:
            self.close()
            if not self.kept:
                index_last = self.path.suffix in (".mp4", ".mov")
                raise FeathersegError(
                    f"{self.path}: could not be written: the disk is full, or the video cannot be encoded. Nothing is "
                    "left of it. Free some space or choose another folder"
                    + ("; an .mkv would keep what there is room for." if index_last else ".")
                )
            handle = os.open(self._hidden, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(self._hidden, self.path)
        except OSError as error:
            self.kept = 0
            raise FeathersegError(
                f"{self.path}: could not be written: {error.strerror}. Choose a folder that you may write to."
            ) from None
        finally:
            self.discard()
        if self.kept < self.frames:
            lost = f"{self.frames - self.kept:,} of {self.frames:,} frames"
            raise NoRoom(
                f"{self.path}: {lost} could not be written: the disk is full or the folder's quota is used up. The "
                "others are kept."
            )
        return self.path

    def discard(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "_writer"):
            self._writer.release()
        self._hidden.unlink(missing_ok=True)


def check_container(name: str) -> str:
    """The suffix of a container, ``".mp4"``.

    Raises:
        FeathersegError: it is none of :data:`CODECS`.
    """
    if name not in CODECS:
        raise FeathersegError(
            f"videos cannot be written as {name!r}{nearest(name, CODECS)}. There are: {', '.join(CODECS)}."
        )
    return f".{name}"


def _frames_in(path: Path) -> int:
    """How many coded pictures can be read from a video; 0 where it cannot be opened."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])  # -1: as they are coded
    found = 0
    while capture.grab():
        found += 1
    capture.release()
    return found
