"""Videos and cameras: every frame of a file, the newest of a camera, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import Threshold, number_frame, number_of, read_clip, write_clip
from colour_network import colour_segmenter

from featherseg.deploy.stream import predict_stream
from featherseg.deploy.video import Camera, Frame, VideoFile, is_stream, open_source, usable_rate
from featherseg.deploy.video_sink import CODECS, VideoSink
from featherseg.errors import FeathersegError


class FakeCamera:
    """Gives pictures at the times it is told to, without waiting."""

    name, live, counted = "camera:0", True, False
    frames_said: int | None = None

    def __init__(self, times: list[float], rate: float = 10.0) -> None:
        self.times, self.rate, self.closed = times, rate, False

    def frames(self):
        for number, seconds in enumerate(self.times):
            yield Frame(number, seconds, number_frame(number))

    def doubt(self, frames: int) -> str:
        return f"gone after {frames}"

    def close(self) -> None:
        self.closed = True


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def about(folder: Path) -> dict:
    return json.loads((folder / "clip.json").read_text())


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".webm"])
@pytest.mark.parametrize("container", CODECS)
def test_every_frame_of_a_file_is_labelled_once_and_in_order(tmp_path, suffix, container):
    source = VideoFile(write_clip(tmp_path / f"in/clip{suffix}", 11))
    network = Threshold()
    made = predict_stream(network, source, tmp_path / "clip", container=container)
    assert network.seen == list(range(11))
    assert (made.frames, made.dropped, made.doubt) == (11, 0, None)
    path = tmp_path / f"clip_overlay.{container}"
    assert made.files == (tmp_path / "clip.json", path)
    assert [number_of(picture) for picture in read_clip(path)] == list(range(11))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (1, 1), (250, 311)])
def test_videos_of_any_size_have_the_frame_above_the_legend(tmp_path, size):
    source = VideoFile(write_clip(tmp_path / "in/clip.mp4", 3, (250, 312)))
    source.frames = lambda: iter([Frame(0, 0.0, number_frame(21, size))])  # type: ignore[method-assign]
    predict_stream(Threshold(), source, tmp_path / "clip")
    (picture,) = read_clip(tmp_path / "clip_overlay.mp4")
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert picture.shape[0] >= size[0] + 24
    assert picture.shape[1] >= max(size[1], 240)
    assert about(tmp_path)["size"] == {"height": size[0], "width": size[1]}
    if size[0] > 1:
        assert number_of(picture, size) == 21


def test_ids_are_kept_without_loss(tmp_path):
    source = VideoFile(write_clip(tmp_path / "in/clip.avi", 4))
    network = colour_segmenter()
    predict_stream(network, source, tmp_path / "clip", container=None, ids=True)
    assert files(tmp_path) == ["clip.json", "clip.mkv", "in"]
    for stored, frame in zip(
        read_clip(tmp_path / "clip.mkv"), VideoFile(tmp_path / "in/clip.avi").frames(), strict=True
    ):
        np.testing.assert_array_equal(stored[..., 0], network.predict(frame.image).labels)


def test_the_json_tells_shares_over_all_frames(tmp_path):
    predict_stream(Threshold(), VideoFile(write_clip(tmp_path / "in/clip.mov", 8)), tmp_path / "clip")
    told = about(tmp_path)
    assert told["video"] == {"frames": 8, "frames_per_second": 10.0, "lost": 0, "dropped": 0, "complete": True}
    white = np.mean([(number_frame(number)[..., 0] > 127).mean() for number in range(8)])
    assert told["shares"]["white"] == pytest.approx(white, abs=0.02)
    assert sum(told["shares"].values()) == pytest.approx(1, abs=1e-5)


def test_a_limit_ends_the_stream_without_doubt(tmp_path):
    made = predict_stream(Threshold(), VideoFile(write_clip(tmp_path / "in/clip.mp4")), tmp_path / "clip", limit=5)
    assert (made.frames, made.doubt) == (5, None)
    assert len(read_clip(tmp_path / "clip_overlay.mp4")) == 5


@pytest.mark.parametrize("content", [b"", b"no video at all " * 50])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(FeathersegError, match=r"clip\.mp4: no video"):
        open_source(tmp_path / "clip.mp4")


def test_an_mp4_without_its_index_is_refused(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(FeathersegError, match="cut short"):
        open_source(clip)


def test_a_missing_file_and_a_missing_camera_are_told(tmp_path):
    with pytest.raises(FeathersegError, match="no such file"):
        open_source(tmp_path / "gone.mp4")
    with pytest.raises(FeathersegError, match=r"camera:77: there is no such camera"):
        open_source("camera:77")
    with pytest.raises(FeathersegError, match="which camera"):
        open_source("camera:")


def test_a_name_with_a_colon_is_a_file_and_no_address(tmp_path, monkeypatch):
    write_clip(tmp_path / "clip.mp4").rename(tmp_path / "udp:9.mp4")
    monkeypatch.chdir(tmp_path)
    assert sum(1 for _ in open_source("udp:9.mp4").frames()) == 12


def test_what_is_a_stream(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    assert [is_stream(name) for name in ("a.MP4", "camera:0", "a.png", "x/", tmp_path / "folder.mp4")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 90000.0])
def test_a_rate_that_cannot_be_becomes_the_usual_one(rate):
    assert usable_rate(rate) == 25.0


def test_a_cameras_frames_carry_the_time_they_were_taken_at(tmp_path):
    ticks = iter([100.0, 100.0, 100.25, 101.0])
    camera = Camera(str(write_clip(tmp_path / "clip.avi", 3)), clock=lambda: next(ticks))
    assert [frame.seconds for frame in camera.frames()] == [0.0, 0.25, 1.0]


def test_the_video_of_a_camera_keeps_its_time(tmp_path, monkeypatch):
    """At ten a second: frames at 0, 0.1, 0.5 and 0.9; the second stands for four, and so does the third."""
    camera = FakeCamera([0.0, 0.1, 0.5, 0.9])
    every = [Frame(n, t, number_frame(n)) for n, t in enumerate(camera.times)]
    camera.frames = lambda: iter(every)  # type: ignore[method-assign]
    monkeypatch.setattr("featherseg.deploy.stream.Pipeline", InTurn)
    made = predict_stream(Threshold(), camera, tmp_path / "clip")
    assert [number_of(picture) for picture in read_clip(tmp_path / "clip_overlay.mp4")] == [
        0,
        1,
        1,
        1,
        1,
        2,
        2,
        2,
        2,
        3,
    ]
    assert made.frames == 4
    assert camera.closed


def test_a_camera_faster_than_the_video_shows_its_newest_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("featherseg.deploy.stream.Pipeline", InTurn)
    predict_stream(Threshold(), FakeCamera([0.0, 0.04, 0.09, 0.12, 0.2]), tmp_path / "clip")
    assert [number_of(picture) for picture in read_clip(tmp_path / "clip_overlay.mp4")] == [1, 3, 4]


class InTurn:
    """The stages one after the other, where it is not the threads that matter."""

    dropped = 0

    def __init__(self, source, stages, newest: bool) -> None:
        self.source, self.stages = source, stages
        assert newest

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self):
        for item in self.source:
            for stage in self.stages:
                item = stage(item)
            yield item


def test_frames_of_a_camera_are_labelled_or_dropped_and_counted(tmp_path):
    network = Threshold()
    made = predict_stream(network, FakeCamera([number / 10 for number in range(60)]), tmp_path / "clip")
    assert made.frames + made.dropped == 60
    assert network.seen == sorted(set(network.seen))
    assert network.seen[-1] == 59
    assert made.doubt == f"gone after {made.frames}"
    assert about(tmp_path)["video"]["dropped"] == made.dropped


def test_an_error_at_the_first_frame_leaves_nothing(tmp_path):
    network = Threshold(0, FeathersegError("takes 16x24 alone"))
    with pytest.raises(FeathersegError, match="16x24"):
        predict_stream(network, VideoFile(write_clip(tmp_path / "in/clip.mp4")), tmp_path / "clip")
    assert files(tmp_path) == ["in"]


def test_a_video_without_a_frame_is_refused(tmp_path):
    source = VideoFile(write_clip(tmp_path / "in/clip.mp4"))
    source.frames = lambda: iter(())  # type: ignore[method-assign]
    with pytest.raises(FeathersegError, match="holds no frame"):
        predict_stream(Threshold(), source, tmp_path / "clip")
    assert files(tmp_path) == ["in"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FeathersegError, match="could not be written"):
        VideoSink(tmp_path / "file/clip.mp4", (8, 8), 10)


def test_pictures_of_another_size_are_made_to_fit(tmp_path):
    sink = VideoSink(tmp_path / "clip.mp4", (48, 64), 10)
    for factor in (1, 2):
        sink.write(number_frame(42).repeat(factor, 0).repeat(factor, 1))
    sink.finish()
    assert [number_of(picture) for picture in read_clip(tmp_path / "clip.mp4")] == [42, 42]
