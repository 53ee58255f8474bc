"""A video or a camera labelled frame by frame: decoded, labelled, drawn and encoded at the same time.

Choices worth knowing:

- Of a file every frame is labelled and written, in order. A camera goes on without us: of the frames that came while
  the network was busy the newest is taken, the others are dropped and counted. Nothing is dropped behind that point.
- The video of a camera keeps its time: a picture stands until the one that was taken next, so that dropped frames make
  it no faster.
- However a stream ends (its end, an error, a full disk, Ctrl-C), what was written until then is a video that plays, and
  the JSON tells of what is there. Signals wait while a frame is added and while the files are closed.
- The legend names all classes, since the pictures of a video have one size.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherseg.data.colour import legend_strip
from featherseg.data.labels import LabelSet
from featherseg.deploy.pipeline import Pipeline, held_off
from featherseg.deploy.segmentation import Segmentation
from featherseg.deploy.video import CAMERA, Frame, Source
from featherseg.deploy.video_sink import IDS_SUFFIX, VideoSink, check_container
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write

_LEGEND_WIDTH = 240


@dataclass(frozen=True)
class Streamed:
    """What became of a stream.

    Attributes:
        frames: labelled.
        dropped: of a camera, those that gave way to newer ones.
        doubt: a line about a source that ended otherwise than it should have.
        files: what was written.
    """

    frames: int
    dropped: int
    doubt: str | None
    files: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A frame that is ready to be written: the second it was taken at, the picture, its ids, pixels of each class."""

    seconds: float
    picture: np.ndarray | None
    ids: np.ndarray
    counts: np.ndarray


def draw(frame: Frame, found: Segmentation, legend: np.ndarray | None, alpha: float = 0.5) -> Drawn:
    """The overlay of a labelled frame on top of a legend as wide as itself or wider; no picture without a legend."""
    counts = np.bincount(found.labels.ravel(), minlength=len(found.label_set))
    if legend is None:
        return Drawn(frame.seconds, None, found.labels, counts)
    height, width = found.labels.shape
    picture = np.empty((height + legend.shape[0], legend.shape[1], 3), np.uint8)
    picture[:height, width:] = 255
    picture[:height, :width] = found.overlay(alpha)
    picture[height:] = legend
    return Drawn(frame.seconds, picture, found.labels, counts)


class Legend:
    """The legend of all classes, drawn once a width."""

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._drawn: dict[int, np.ndarray] = {}

    def __call__(self, width: int) -> np.ndarray:
        """uint8 RGB, at least ``width`` pixels wide."""
        if width not in self._drawn:
            wide = max(width, _LEGEND_WIDTH)
            self._drawn[width] = legend_strip(self._labels, range(len(self._labels)), wide)
        return self._drawn[width]


class Record:
    """What is written of a stream: the video of the overlays, that of the ids, and a JSON.

    Args:
        target: the path of all of them, without suffix.
        container: of the overlays; None for none.
        ids: write the ids too.
        rate: frames a second.
        live: keep the time of the frames: one stands in the video until the next was taken.

    Attributes:
        frames: how many were added.
        files: what :meth:`finish` left, even where it raised.
    """

    def __init__(self, target: Path, container: str | None, ids: bool, rate: float, live: bool) -> None:
        self.target, self.rate, self.live = target, rate, live
        self.suffix = None if container is None else check_container(container)
        self.ids = ids
        self.frames = 0
        self.files: tuple[Path, ...] = ()
        self._slots = 0
        self._held: Drawn | None = None
        self._counts: np.ndarray | None = None
        self._sinks: dict[str, VideoSink] = {}
        self._size = (0, 0)

    def add(self, drawn: Drawn) -> None:
        """Take the next frame.

        Raises:
            FeathersegError: it cannot be written.
        """
        if self.frames == 0:
            self._open(drawn)
        if self.live:
            slot = round(drawn.seconds * self.rate)
            while self._held is not None and self._slots < slot:
                self._write(self._held)
            self._held = drawn
        else:
            self._write(drawn)
        self.frames += 1
        self._counts = drawn.counts if self._counts is None else self._counts + drawn.counts

    def finish(self, labels: LabelSet, dropped: int, complete: bool | None) -> None:
        """Close the videos and write the JSON; nothing where there was no frame, or where no video can be kept.

        Args:
            labels: names the shares.
            dropped: of a camera, frames that gave way to newer ones.
            complete: whether every frame was labelled; None where that cannot be known.

        Raises:
            FeathersegError: something could not be written; all else is.
        """
        if self._counts is None:
            return
        failures: list[FeathersegError] = []
        if self._held is not None:
            _attempt(failures, self._write, self._held)
        sinks = list(self._sinks.values())
        for sink in sinks:
            sink.close()
        about = {"dropped": dropped, "complete": complete}
        # The JSON before the names: it marks the videos as ours, so that a stream can be labelled again.
        told = not sinks or any(sink.kept for sink in sinks)
        json_path = _attempt(failures, self._tell, labels, about, bool(failures)) if told else None
        failed_before = len(failures)
        for sink in sinks:
            _attempt(failures, sink.finish)
        if json_path is not None and len(failures) > failed_before:
            _attempt(failures, self._tell, labels, about, True)
        self.files = (*([json_path] if json_path else []), *(sink.path for sink in sinks if sink.kept))
        if failures:
            raise failures[0]

    def discard(self) -> None:
        """Leave no hidden file behind."""
        for sink in self._sinks.values():
            sink.discard()

    def _tell(self, labels: LabelSet, about: dict[str, Any], failed: bool) -> Path:
        assert self._counts is not None
        lost = max((sink.frames - sink.kept for sink in self._sinks.values()), default=0)
        height, width = self._size
        video = {"frames": self.frames, "frames_per_second": round(self.rate, 3), "lost": lost, **about}
        if failed or lost:
            video["complete"] = False
        shares = dict(zip(labels.classes, (self._counts / self._counts.sum()).round(6).tolist(), strict=True))
        text = json.dumps({"size": {"height": height, "width": width}, "video": video, "shares": shares}, indent=1)
        return atomic_write(self.target.with_name(f"{self.target.name}.json"), text + "\n")

    def _open(self, first: Drawn) -> None:
        self._size = (first.ids.shape[0], first.ids.shape[1])
        if self.suffix is not None and first.picture is not None:
            path = self.target.with_name(f"{self.target.name}_overlay{self.suffix}")
            self._sinks["overlay"] = VideoSink(path, (first.picture.shape[0], first.picture.shape[1]), self.rate)
        if self.ids:
            path = self.target.with_name(f"{self.target.name}{IDS_SUFFIX}")
            self._sinks["ids"] = VideoSink(path, self._size, self.rate, ids=True)

    def _write(self, drawn: Drawn) -> None:
        for kind, sink in self._sinks.items():
            picture = drawn.ids if kind == "ids" else drawn.picture
            assert picture is not None
            sink.write(picture)
        self._slots += 1


def _attempt(failures: list[FeathersegError], work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except FeathersegError as error:
        failures.append(error)
        return None


def outputs_of(container: str | None, ids: bool) -> tuple[str, ...]:
    """What is added to a stream's name for the files that :func:`predict_stream` writes."""
    overlay = () if container is None else (f"_overlay{check_container(container)}",)
    return (*overlay, *((IDS_SUFFIX,) if ids else ()), ".json")


def predict_stream(
    segmenter: Any,
    source: Source,
    target: str | Path,
    *,
    container: str | None = "mp4",
    ids: bool = False,
    limit: int | None = None,
    alpha: float = 0.5,
    progress: Callable[..., None] | None = None,
) -> Streamed:
    """Label a video or a camera and write the labelled video.

    Args:
        segmenter: has ``predict(image)`` and ``labels``.
        source: closed at the end.
        target: the path of the results without suffix: ``TARGET_overlay.mp4``, ``TARGET.json``, ``TARGET.mkv``.
        container: of the overlay; None for none.
        ids: write ``TARGET.mkv`` too, the class ids of every frame without loss.
        limit: end after so many frames.
        alpha: share of the class colours in the overlay.
        progress: called with the number of frames done, and how many the source says it has.

    Raises:
        FeathersegError: no frame can be read, one cannot be labelled, or the disk is full. What was written before is
            kept.
        KeyboardInterrupt: by Ctrl-C; what was written before is kept. Whatever ends the stream carries a note of what
            was (:meth:`BaseException.add_note`).
    """
    record = Record(Path(target), container, ids, source.rate, source.live)
    legend = Legend(segmenter.labels)

    def label(frame: Frame) -> tuple[Frame, Segmentation]:
        return frame, segmenter.predict(frame.image)

    def paint(labelled: tuple[Frame, Segmentation]) -> Drawn:
        frame, found = labelled
        return draw(frame, found, None if container is None else legend(found.labels.shape[1]), alpha)

    stream = Pipeline(source.frames(), [label, paint], newest=source.live)
    total = limit if source.frames_said is None else min(source.frames_said, limit or source.frames_said)
    ended, doubt, unkept = False, None, ""
    complete: bool | None = False
    try:
        try:
            with stream:
                for drawn in stream:
                    with held_off():
                        record.add(drawn)
                    if progress:
                        progress(record.frames, total)
                    if record.frames == limit:
                        complete = True
                        break
                else:
                    doubt = source.doubt(record.frames)
                    complete = False if doubt else source.counted or None
            ended = True
        finally:
            with held_off():
                try:
                    record.finish(segmenter.labels, stream.dropped, complete)
                except FeathersegError as error:
                    if ended:  # otherwise the error that ended the stream is the one to tell
                        raise
                    unkept = f" ({error})"
                finally:
                    record.discard()
                    source.close()
    except BaseException as error:
        kept = ", ".join(map(str, record.files))
        what = f"what was labelled until then is kept in {kept}" if kept else "nothing of it is kept"
        error.add_note(what + unkept)
        raise
    if record.frames == 0:
        raise FeathersegError(f"{source.name}: holds no frame that can be read. Copy it again, or convert it.")
    return Streamed(record.frames, stream.dropped, doubt, record.files)


def stem_of(source: Source) -> Path:
    """The name that a stream's results get: that of its file, ``camera-0``, or ``camera`` for one with an address."""
    if not source.live:
        return Path(Path(source.name).name)
    which = source.name.removeprefix(CAMERA)
    return Path(f"camera-{which}" if which.isdigit() else "camera")
