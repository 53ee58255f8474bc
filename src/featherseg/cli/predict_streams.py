"""The part of ``featherseg predict`` that labels videos and cameras."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from featherseg.cli.common import note, note_from_handler, progress_bar
from featherseg.errors import FeathersegError

if TYPE_CHECKING:
    from featherseg.deploy.files import Names

TERMINATED = 143


@dataclass(frozen=True)
class Recording:
    """What is written of a stream: the container of the overlay (None for none), the ids, and how many frames."""

    container: str | None
    ids: bool
    limit: int | None


def predict_streams(segmenter: Any, streams: list[str], output: Path, recording: Recording, names: "Names") -> int:
    """Label every video and camera, and give the number of those that failed."""
    failed = 0
    with _stopped_once():
        for argument in streams:
            try:
                _predict_stream(segmenter, argument, output, recording, names)
            except FeathersegError as error:
                note(f"featherseg: error: {error}")
                failed += 1
            except (KeyboardInterrupt, SystemExit) as stop:
                kept = "; ".join(getattr(stop, "__notes__", ["nothing of it is kept"]))
                note(f"stopped at {argument}; {kept}")
                raise
    return failed


def _predict_stream(segmenter: Any, argument: str, output: Path, recording: Recording, names: "Names") -> None:
    from featherseg.deploy.files import ImageFile, refuse_to_overwrite
    from featherseg.deploy.stream import outputs_of, predict_stream, stem_of
    from featherseg.deploy.video import open_source

    written = outputs_of(recording.container, recording.ids)
    source = open_source(argument)
    try:
        if not source.live and Path(argument).resolve().parent == output.resolve():
            raise FeathersegError(
                f"{argument}: its results would be written beside it in {output} and could overwrite it. Choose "
                "another folder with -o."
            )
        stem = names.free(stem_of(source))
        refuse_to_overwrite(ImageFile(Path(argument), stem), output, written)
    except FeathersegError:
        source.close()
        raise
    with progress_bar(f"labelling {source.name}") as advance:
        made = predict_stream(
            segmenter,
            source,
            output / stem,
            container=recording.container,
            ids=recording.ids,
            limit=recording.limit,
            progress=advance,
        )
    if made.doubt:
        note(f"warning: {made.doubt}")
    dropped = f" and {made.dropped:,} dropped" if made.dropped else ""
    plural = "" if made.frames == 1 else "s"
    typer.echo(f"{argument}: {made.frames:,} frame{plural} labelled{dropped} in {made.files[-1]}")


@contextmanager
def _stopped_once() -> Iterator[None]:
    """Let SIGTERM end the stream as Ctrl-C does, with the exit code of its own, and hear the first signal alone.

    Further ones must neither keep the video from being closed nor change the exit code. So after the first they stay
    ignored, beyond this block: all that is left of the process is its end. What the caller ignores (as a shell does
    for its background jobs) stays ignored from the start.
    """
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in heard}
    stopped = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            return
        stopped = True
        note_from_handler("stopping; closing the video ...")
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(TERMINATED)

    try:
        for number in heard:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stopped else handler or signal.SIG_DFL)
