"""``featherseg predict`` on videos, by several processes, and in views."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import cv2
import numpy as np
import pytest
from PIL import Image

from featherseg.cli import predict_streams
from featherseg.cli.main import main
from featherseg.deploy.segmenter import load
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, read_weights, save_weights


def write_clip(path, frames=6, size=(32, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter_fourcc(*"MJPG")  # type: ignore[attr-defined]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, 10.0, size[::-1])
    pictures = np.random.default_rng(0).integers(0, 255, (3, *size, 3), np.uint8)
    for number in range(frames):
        writer.write(pictures[number % 3])
    writer.release()
    return path


def frames_in(path) -> int:
    capture, found = cv2.VideoCapture(str(path)), 0
    while capture.grab():
        found += 1
    return found


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def predict(weights, output, *arguments) -> int:
    return main(["predict", "-w", str(weights), "-o", str(output), *map(str, arguments)])


def test_a_video_and_an_image_of_one_name_get_names_of_their_own(small_weights, small_data, tmp_path, capsys):
    clip = write_clip(tmp_path / "in/0.avi")
    image = small_data / "images/test/0.png"
    assert predict(small_weights, tmp_path / "out", clip, image, "--ids", "--container", "webm") == 0
    images = {"0.png", "0_overlay.png", "0.json"}
    assert names(tmp_path / "out") == images | {"0-avi_overlay.webm", "0-avi.json", "0-avi.mkv"}
    assert frames_in(tmp_path / "out/0-avi_overlay.webm") == 6
    shown = capsys.readouterr()
    assert "6 frames labelled" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("way", [(), ("--jobs", 2), ("--engine", "ray")], ids=str)
def test_a_folder_without_images_is_told_of_with_the_suffixes_and_nothing_else(small_weights, tmp_path, capsys, way):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/readme.txt").write_text("no picture")
    assert predict(small_weights, tmp_path / "out", tmp_path / "in", *way) == 2
    shown = capsys.readouterr()
    (said,) = shown.err.splitlines()
    assert "in: no images there" in said
    assert "png jpg jpeg webp" in said
    assert shown.out == ""


def test_a_video_cut_short_is_a_warning_and_no_failure(small_weights, tmp_path, capsys):
    clip = write_clip(tmp_path / "in/clip.avi", 20)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert predict(small_weights, tmp_path / "out", clip) == 0
    told = capsys.readouterr().err
    assert told.startswith("warning: ")
    assert "of 20 frames could be read" in told
    assert names(tmp_path / "out") == {"clip.json", "clip_overlay.mp4"}


def test_streams_that_cannot_be_opened_are_told_and_the_others_done(small_weights, tmp_path, capsys):
    (tmp_path / "no.mp4").write_text("no video")
    clip = write_clip(tmp_path / "in/clip.avi")
    assert predict(small_weights, tmp_path / "out", tmp_path / "no.mp4", "camera:93", clip, "--frames", "2") == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["featherseg", "error"]] * 2
    assert "no.mp4: no video" in lines[0]
    assert "camera:93: there is no such camera" in lines[1]
    assert frames_in(tmp_path / "out/clip_overlay.mp4") == 2


def test_a_video_is_never_written_beside_itself(small_weights, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.avi")
    before = clip.read_bytes()
    assert predict(small_weights, tmp_path, clip) == 2
    assert "could overwrite it" in capsys.readouterr().err
    assert names(tmp_path) == {"clip.avi"}
    assert clip.read_bytes() == before


def test_a_strangers_video_is_not_overwritten_and_ours_is(small_weights, tmp_path, capsys):
    clip = write_clip(tmp_path / "in/clip.avi")
    for _ in range(2):
        assert predict(small_weights, tmp_path / "out", clip) == 0
    (tmp_path / "out/clip.json").unlink()
    assert predict(small_weights, tmp_path / "out", clip) == 2
    assert "in the way" in capsys.readouterr().err


def test_ctrl_c_in_a_video_leaves_one_that_plays(small_weights, tmp_path, monkeypatch, capsys):
    from featherseg.deploy import stream

    add = stream.Record.add

    def interrupted(record, drawn):
        if record.frames == 4:
            raise KeyboardInterrupt
        add(record, drawn)

    monkeypatch.setattr(stream.Record, "add", interrupted)
    assert predict(small_weights, tmp_path / "out", write_clip(tmp_path / "in/clip.avi")) == 130
    assert names(tmp_path / "out") == {"clip.json", "clip_overlay.mp4"}
    assert frames_in(tmp_path / "out/clip_overlay.mp4") == 4
    assert "kept in" in capsys.readouterr().err


def test_ctrl_c_before_the_first_frame_does_not_speak_of_what_is_kept(small_weights, tmp_path, monkeypatch, capsys):
    from featherseg.deploy import stream

    def interrupted(record, drawn):
        raise KeyboardInterrupt

    monkeypatch.setattr(stream.Record, "add", interrupted)
    clip = write_clip(tmp_path / "in/clip.avi")
    assert predict(small_weights, tmp_path / "out", clip) == 130
    assert capsys.readouterr().err == f"stopped at {clip}; nothing of it is kept\n"


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_running_stream_with_a_video_that_plays(small_weights, tmp_path, number, code, times):
    clip = write_clip(tmp_path / "in/clip.avi", 1500, (96, 128))
    command = [sys.executable, "-m", "featherseg", "predict", str(clip), "-w", str(small_weights), "-o", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    running = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=heard
    )
    while running.poll() is None and not list(tmp_path.glob(".clip_overlay.*.mp4")):
        time.sleep(0.1)
    time.sleep(0.5)
    for _ in range(times):
        running.send_signal(number)
        time.sleep(0.1)
    _, told = running.communicate(timeout=120)
    assert running.returncode == code
    assert told.decode().count("\n") == 2  # that it is stopping, and what is kept
    assert names(tmp_path) == {"in", "clip.json", "clip_overlay.mp4"}
    assert 0 < frames_in(tmp_path / "clip_overlay.mp4") < 1500


@pytest.mark.slow
def test_several_processes_write_what_one_does(small_weights, small_data, tmp_path, capsys):
    images = small_data / "images"
    assert predict(small_weights, tmp_path / "one", images) == 0
    assert predict(small_weights, tmp_path / "two", images, "--jobs", "2", "--threads", "1") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("9 images labelled")
    one = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    two = {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")}
    assert len(one) == 27
    assert one == two


def test_views_are_those_asked_for(small_weights, small_data, tmp_path):
    from featherseg.deploy.views import View, viewed

    image = small_data / "images/test/0.png"
    for number, (options, view) in enumerate(
        [
            (["--window", "16x24", "--flip"], View(window=(16, 24), flip=True)),
            (["--scales", "0.5,1"], View(scales=(0.5, 1.0))),
            (["--letterbox", "40x40"], View(letterbox=(40, 40))),
            (["--pad", "40x70"], View(pad=(40, 70))),
        ]
    ):
        assert predict(small_weights, tmp_path / str(number), image, *options) == 0
        with Image.open(tmp_path / f"{number}/0.png") as stored:
            found = np.array(stored)
        np.testing.assert_array_equal(found, viewed(load(small_weights), view).predict(image).labels)


def test_the_window_of_the_training_is_read_from_the_weights(small_weights, small_data, tmp_path, capsys):
    from featherseg.deploy.loading import training_size

    weights = read_weights(small_weights)
    about = weights.metadata | {"recipe": {"augment": {"crop": [16, 24]}}}
    known = save_weights(tmp_path / "w.safetensors", weights.tensors, about)
    assert training_size(known) == (16, 24)
    image = small_data / "images/test/0.png"
    assert predict(known, tmp_path / "out", image, "--window", "train") == 0
    assert predict(small_weights, tmp_path / "out", image, "--window", "train") == 2
    assert "Give the window's size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--window", "16"], "--window '16' is no size"),
        (["--jobs", "0"], "--jobs 0"),
        (["--frames", "0"], "--frames 0"),
        (["--scales", "a"], "--scales 'a'"),
        (["--window", "9x9", "--pad", "9x9"], "two ways"),
        (["--container", "mpeg4"], "There are: mp4"),
    ],
)
def test_wrong_options_are_refused(small_weights, tmp_path, capsys, options, words):
    assert predict(small_weights, tmp_path / "out", "a.png", *options) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_videos_and_views_are_for_segmentations(tmp_path, capsys):
    network = create_model("hardnet_petite", 5)
    about = describe_network(network, "hardnet_petite", 5)
    weights = save_weights(tmp_path / "classifier.safetensors", network.state_dict(), about)
    for arguments in (["clip.mp4"], ["a.png", "--flip"]):
        assert predict(weights, tmp_path / "out", *arguments) == 2
        assert "for segmentations alone" in capsys.readouterr().err


@pytest.fixture
def handlers():
    """Those of SIGINT and SIGTERM, which are put back after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_are_what_they_were_after_an_undisturbed_stream(handlers):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with predict_streams._stopped_once():
        pass
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(
    ("first", "error"), [(signal.SIGINT, "KeyboardInterrupt()"), (signal.SIGTERM, "SystemExit(143)")]
)
def test_no_signal_is_heard_after_the_first(handlers, capsys, first, error):
    ended: list[BaseException] = []
    try:
        with predict_streams._stopped_once():
            try:
                signal.raise_signal(first)
            finally:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)
    except BaseException as stop:
        ended.append(stop)
    signal.raise_signal(signal.SIGINT)  # on the way out of the program
    assert [repr(stop) for stop in ended] == [error]


def test_what_the_caller_ignores_stays_ignored(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with predict_streams._stopped_once():
        signal.raise_signal(signal.SIGINT)
