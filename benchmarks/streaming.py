"""How many frames a second a video is labelled with, against the slowest stage of the work alone.

A clip of procedural street scenes is written into a temporary folder and labelled by `featherseg.deploy.stream`, which
decodes, labels, draws and encodes at the same time. Beside it, in interleaved rounds of one process, each of these
stages does all frames alone, and all of them do it one after the other. `slowest / streamed` is the share of the
slowest stage's throughput that is kept; it can be 1 only where the other stages find cores of their own, so that the
processor time of all of them on the cores that there are is told as well (`cores allow`).
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch

from featherseg.data.streets import Streets
from featherseg.deploy.loading import load
from featherseg.deploy.stream import Legend, draw, predict_stream
from featherseg.deploy.video import Frame, VideoFile
from featherseg.deploy.video_sink import VideoSink
from measuring import finish, interleaved, load_average, parser, summary


def write_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A ride: street scenes that a view of ``size`` slides over, a pixel further in each frame."""
    wide = Streets("val", 1, size=(size[0], size[1] + frames), seed=0).read(0).image
    sink = VideoSink(path, size, 25.0)
    for number in range(frames):
        sink.write(wide[:, number : number + size[1]].copy())
    sink.finish()


class Stages:
    """The four stages, each over all frames, with what the one before made of them held in memory."""

    def __init__(self, weights: str, clip: Path, folder: Path, threads: int) -> None:
        self.segmenter: Any = load(weights, threads=threads)
        self.clip, self.folder = clip, folder
        self.frames = self.decode()
        self.found = self.label()
        self.legend = Legend(self.segmenter.labels)
        self.drawn = self.paint()

    def decode(self) -> list[Frame]:
        return list(VideoFile(self.clip).frames())

    def label(self) -> list:
        return [self.segmenter.predict(frame.image) for frame in self.frames]

    def paint(self) -> list:
        pairs = zip(self.frames, self.found, strict=True)
        return [draw(frame, found, self.legend(found.labels.shape[1])) for frame, found in pairs]

    def encode(self) -> None:
        sink = VideoSink(self.folder / "alone.mp4", self.drawn[0].picture.shape[:2], 25.0)
        for drawn in self.drawn:
            sink.write(drawn.picture)
        sink.finish()

    def stream(self) -> None:
        predict_stream(self.segmenter, VideoFile(self.clip), self.folder / "streamed")

    def one_after_the_other(self) -> None:
        sink = None
        for frame in VideoFile(self.clip).frames():
            found = self.segmenter.predict(frame.image)
            drawn = draw(frame, found, self.legend(found.labels.shape[1]))
            assert drawn.picture is not None
            sink = sink or VideoSink(self.folder / "in_turn.mp4", drawn.picture.shape[:2], 25.0)
            sink.write(drawn.picture)
        assert sink is not None
        sink.finish()


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--weights", default="fassd_net_l2.camvid", help="shipped weights or a file")
    arguments.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"))
    arguments.add_argument("--frames", type=int, default=100, help="of the clip (default 100)")
    arguments.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    arguments.add_argument("--threads", type=int, default=1, help="of the network (default 1)")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    load_before = load_average()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip.mp4", options.frames, (options.size[0], options.size[1]))
        stages = Stages(options.weights, folder / "clip.mp4", folder, options.threads)
        work: dict[str, Callable[[], object]] = {
            "decode": stages.decode,
            "label": stages.label,
            "draw": stages.paint,
            "encode": stages.encode,
            "streamed": stages.stream,
            "one after the other": stages.one_after_the_other,
        }
        busy: dict[str, list[float]] = {which: [] for which in work}

        def timed(which: str) -> float:
            began, worked = time.perf_counter(), time.process_time()
            work[which]()
            busy[which].append(1000 * (time.process_time() - worked) / options.frames)
            return 1000 * (time.perf_counter() - began) / options.frames

        for warm in work.values():
            warm()
        times = interleaved({which: lambda which=which: timed(which) for which in work}, options.rounds, print)
    figures: dict[str, object] = {f"{which}, ms a frame": summary(taken) for which, taken in times.items()}
    middle = {which: summary(taken)["median"] for which, taken in times.items()}
    alone = ("decode", "label", "draw", "encode")
    slowest = max(alone, key=lambda which: middle[which])
    allowed = max(middle[slowest], sum(summary(busy[which])["median"] for which in alone) / cores)
    figures |= {
        "slowest stage": slowest,
        "slowest / streamed": round(middle[slowest] / middle["streamed"], 3),
        "cores allow": round(middle[slowest] / allowed, 3),
        "one after the other / streamed": round(middle["one after the other"] / middle["streamed"], 2),
    }
    finish(
        "streaming",
        f"{options.weights}, {options.frames} frames of {options.size[0]}x{options.size[1]}, mp4 to labelled mp4, "
        f"{cores} cores",
        figures,
        options.card,
        load_before,
        seeds=[0],
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
