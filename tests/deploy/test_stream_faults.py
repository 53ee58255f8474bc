"""Streams that go wrong: damaged and cut files, full disks, Ctrl-C; and that the JSON tells of what is left."""

import json
import resource
import signal
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from clips import Threshold, number_of, read_clip, write_clip

from featherseg.deploy import video, video_sink
from featherseg.deploy.stream import predict_stream
from featherseg.deploy.video import VideoFile
from featherseg.errors import FeathersegError


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def about(folder: Path) -> dict:
    return json.loads((folder / "clip.json").read_text())


def spoil_a_picture(clip: Path, picture: int) -> None:
    """Put zeros in the place of a picture of MPEG-4 Part 2, from its start code to where the next one begins."""
    parts = clip.read_bytes().split(b"\x00\x00\x01\xb6")
    parts[picture + 1] = bytes(len(parts[picture + 1]))
    code = [b"\x00\x00\x01\xb6"] * (len(parts) - 1)
    code[picture] = bytes(4)
    clip.write_bytes(parts[0] + b"".join(start + part for start, part in zip(code, parts[1:], strict=True)))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit of file sizes stands for a quota: the system refuses the writes, and OpenCV does not say so."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, even where the tests run in the background of a shell, which lets it be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".webm"])
def test_a_video_that_ends_in_mid_frame_keeps_what_was_read(tmp_path, suffix):
    whole = write_clip(tmp_path / f"in/clip{suffix}", 40)
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) * 6 // 10])
    made = predict_stream(Threshold(), VideoFile(whole), tmp_path / "clip")
    assert made.doubt is not None
    assert "of about 40" in made.doubt or "of 40" in made.doubt
    assert 4 < made.frames < 40
    numbers = [number_of(picture) for picture in read_clip(tmp_path / "clip_overlay.mp4")]
    assert numbers[:-1] == list(range(made.frames - 1))  # the last one may be half a frame
    assert about(tmp_path)["video"]["complete"] is False


def test_frames_that_cannot_be_read_are_counted_and_the_others_done(tmp_path):
    clip = write_clip(tmp_path / "in/clip.avi", 30)
    content = bytearray(clip.read_bytes())
    chunk = content.index(b"\xff\xd8", len(content) // 2) - 8  # a picture and the eight bytes that announce it
    content[chunk : chunk + 20] = bytes(20)
    clip.write_bytes(content)
    made = predict_stream(Threshold(), VideoFile(clip), tmp_path / "clip")
    assert made.frames == 29
    assert made.doubt is not None
    assert "29 of 30 frames" in made.doubt


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_what_follows_an_unreadable_frame_is_labelled(tmp_path, suffix):
    clip = write_clip(tmp_path / f"in/clip{suffix}", 40)
    spoil_a_picture(clip, 15)
    network = Threshold()
    made = predict_stream(network, VideoFile(clip), tmp_path / "clip")
    assert made.frames == 39
    assert network.seen[-10:] == list(range(30, 40))
    assert made.doubt is not None
    assert "39 of 40 frames" in made.doubt
    assert about(tmp_path)["video"]["complete"] is False


@pytest.mark.parametrize(("returns", "events"), [(True, ["read", "released"]), (False, [])])
def test_a_file_is_let_go_of_between_two_reads_alone(tmp_path, monkeypatch, returns, events):
    monkeypatch.setattr(video, "_LAST_READ", 5.0 if returns else 0.05)
    source = VideoFile(write_clip(tmp_path / "clip.avi"))
    capture, reading, may_return, seen = source._capture, Event(), Event(), []

    class Slow:
        def read(self):
            reading.set()
            if returns:
                time.sleep(0.2)
            else:
                may_return.wait(20)
            seen.append("read")
            return capture.read()

        def release(self):
            seen.append("released")

    source._capture = Slow()  # type: ignore[assignment]
    reader = Thread(target=lambda: next(source.frames()))
    reader.start()
    reading.wait(5)
    source.close()
    found = list(seen)
    may_return.set()
    reader.join()
    assert found == events


@pytest.mark.parametrize(
    ("suffix", "complete"),
    [(".mp4", True), (".mov", True), (".avi", True), (".mkv", None), (".webm", None), (".ts", None), (".mpg", None)],
)
def test_a_whole_file_is_known_to_be_complete_where_it_counts_its_frames(tmp_path, suffix, complete):
    made = predict_stream(Threshold(), VideoFile(write_clip(tmp_path / f"in/clip{suffix}", rate=25)), tmp_path / "clip")
    assert (made.frames, made.doubt) == (12, None)
    assert about(tmp_path)["video"]["complete"] is complete


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_a_cut_file_that_does_not_say_how_long_it_was_is_not_called_complete(tmp_path, suffix):
    whole = write_clip(tmp_path / f"in/clip{suffix}", 60, rate=25)
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) * 6 // 10])
    made = predict_stream(Threshold(), VideoFile(whole), tmp_path / "clip")
    assert 0 < made.frames < 60
    assert about(tmp_path)["video"]["complete"] is None


def test_an_mp4_in_fragments_does_not_count_its_frames(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    assert VideoFile(clip).counted
    clip.write_bytes(clip.read_bytes() + (8).to_bytes(4, "big") + b"moof")
    assert not VideoFile(clip).counted


def test_an_unreadable_frame_is_told_where_no_number_shows_it(tmp_path):
    source = VideoFile(write_clip(tmp_path / "clip.mkv", 100))
    read, asked = source._capture.read, []

    class Flawed:
        def read(self):
            asked.append(read())
            return (False, None) if len(asked) == 50 else asked[-1]

    source._capture = Flawed()  # type: ignore[assignment]
    assert sum(1 for _ in source.frames()) == 99
    assert "99 frames could be read and 1 between them could not" in str(source.doubt(99))


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(143), FeathersegError("the network"), ValueError("x")]
)
def test_a_stream_that_is_broken_off_leaves_a_video_that_plays(tmp_path, error):
    def progress(done: int, total: int | None) -> None:
        if done == 7:
            raise error

    with pytest.raises(type(error)):
        predict_stream(
            Threshold(), VideoFile(write_clip(tmp_path / "in/clip.mp4")), tmp_path / "clip", progress=progress
        )
    assert files(tmp_path) == ["clip.json", "clip_overlay.mp4", "in"]
    assert [number_of(picture) for picture in read_clip(tmp_path / "clip_overlay.mp4")] == list(range(7))
    assert about(tmp_path)["video"]["complete"] is False


@pytest.mark.parametrize("stopped_at", [7, None])
def test_ctrl_c_while_a_video_is_closed_waits_until_it_is(tmp_path, monkeypatch, interruptible, stopped_at):
    count = video_sink._frames_in

    def progress(done: int, total: int | None) -> None:
        if done == stopped_at:
            raise KeyboardInterrupt

    def interrupted(path: Path) -> int:
        signal.raise_signal(signal.SIGINT)
        return count(path)

    monkeypatch.setattr(video_sink, "_frames_in", interrupted)
    clip = VideoFile(write_clip(tmp_path / "in/clip.mp4"))
    with pytest.raises(KeyboardInterrupt) as stopped:
        predict_stream(Threshold(), clip, tmp_path / "clip", progress=progress)
    assert files(tmp_path) == ["clip.json", "clip_overlay.mp4", "in"]
    assert len(read_clip(tmp_path / "clip_overlay.mp4")) == (stopped_at or 12)
    assert about(tmp_path)["video"]["complete"] is (stopped_at is None)
    json_file, overlay = tmp_path / "clip.json", tmp_path / "clip_overlay.mp4"
    assert stopped.value.__notes__ == [f"what was labelled until then is kept in {json_file}, {overlay}"]


def test_a_stream_of_which_nothing_is_left_says_so(tmp_path):
    network = Threshold(0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as stopped:
        predict_stream(network, VideoFile(write_clip(tmp_path / "in/clip.mp4")), tmp_path / "clip")
    assert stopped.value.__notes__ == ["nothing of it is kept"]


def test_a_disk_that_fills_up_keeps_what_there_was_room_for(tmp_path, monkeypatch):
    usage, asked = namedtuple("usage", "free"), []

    def disk_usage(path: Path):
        asked.append(path)
        return usage(2**40 if len(asked) <= 6 else 1000)

    monkeypatch.setattr(video_sink.shutil, "disk_usage", disk_usage)
    with pytest.raises(FeathersegError, match=r"clip_overlay\.mp4: no space left on the device after 6 frames"):
        predict_stream(Threshold(), VideoFile(write_clip(tmp_path / "in/clip.mp4")), tmp_path / "clip")
    assert files(tmp_path) == ["clip.json", "clip_overlay.mp4", "in"]
    assert len(read_clip(tmp_path / "clip_overlay.mp4")) == about(tmp_path)["video"]["frames"] == 6
    assert about(tmp_path)["video"]["complete"] is False


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_video_that_cannot_be_closed_leaves_no_json_of_it(tmp_path, suffix):
    source = VideoFile(write_clip(tmp_path / "in/clip.avi", 60, (96, 128)))
    with files_of_at_most(8_000), pytest.raises(FeathersegError, match=r"Nothing is left of it.*an \.mkv would keep"):
        predict_stream(Threshold(), source, tmp_path / "clip", container=suffix)
    assert files(tmp_path) == ["in"]


@pytest.mark.parametrize("suffix", ["mkv", "avi", "webm"])
def test_a_video_that_cannot_be_closed_is_kept_where_it_plays(tmp_path, suffix):
    source = VideoFile(write_clip(tmp_path / "in/clip.avi", 60, (96, 128)))
    with files_of_at_most(8_000), pytest.raises(FeathersegError, match=r"of 60 frames could not be written"):
        predict_stream(Threshold(), source, tmp_path / "clip", container=suffix)
    kept = read_clip(tmp_path / f"clip_overlay.{suffix}")
    assert 1 < len(kept) < 60
    assert [number_of(picture, (96, 128)) for picture in kept[:-1]] == list(range(len(kept) - 1))
    told = about(tmp_path)["video"]
    assert (told["frames"], told["lost"], told["complete"]) == (60, 60 - len(kept), False)


def test_the_json_beside_the_ids_says_that_the_overlay_is_lost(tmp_path):
    source = VideoFile(write_clip(tmp_path / "in/clip.avi", 60, (96, 128)))
    with files_of_at_most(8_000), pytest.raises(FeathersegError, match=r"clip_overlay\.mp4.*Nothing is left of it"):
        predict_stream(Threshold(), source, tmp_path / "clip", ids=True)
    assert files(tmp_path) == ["clip.json", "clip.mkv", "in"]
    assert (about(tmp_path)["video"]["lost"], about(tmp_path)["video"]["complete"]) == (60, False)


def test_a_video_that_cannot_be_closed_leaves_the_one_before_with_its_json(tmp_path):
    clip = write_clip(tmp_path / "in/clip.avi", 60, (96, 128))
    predict_stream(Threshold(), VideoFile(clip), tmp_path / "clip", limit=3)
    with files_of_at_most(8_000), pytest.raises(FeathersegError, match="Nothing is left of it"):
        predict_stream(Threshold(), VideoFile(clip), tmp_path / "clip")
    assert about(tmp_path)["video"]["frames"] == len(read_clip(tmp_path / "clip_overlay.mp4")) == 3


def test_a_video_that_cannot_get_its_name_is_not_told_of_as_complete(tmp_path):
    (tmp_path / "clip_overlay.mp4").mkdir()
    with pytest.raises(FeathersegError, match="could not be written"):
        predict_stream(Threshold(), VideoFile(write_clip(tmp_path / "in/clip.mp4")), tmp_path / "clip")
    told = about(tmp_path)["video"]
    assert (told["lost"], told["complete"]) == (12, False)
