"""What a worker of a cluster does, without a cluster: the tally is called directly."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from job_predictors import Reader

from featherseg.deploy import ray_worker
from featherseg.deploy.ray_worker import DONE, PROBLEM, STOP, UNSEEN, Labeller, Tally, Work
from featherseg.errors import FeathersegError


class Handle:
    """A tally that answers as an actor's handle does."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.tally, name))


class FullDisk(Reader):
    def predict(self, image: Path) -> Any:
        def save(folder, stem, *, overlay):
            raise FeathersegError(f"{stem}: no space left")

        return SimpleNamespace(save=save)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def start(tmp_path, monkeypatch, tally):
    """``start(**changes of the work)`` gives a worker; four images lie in the folder ``in``."""
    monkeypatch.setattr(ray_worker, "runtime_module", lambda name, extra: SimpleNamespace(get=lambda value: value))
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    for number in range(4):
        (tmp_path / f"in/{number}.png").write_bytes(b"x")
    (tmp_path / "out/.token").touch()

    def make(**changes: Any) -> Labeller:
        work: dict[str, Any] = {
            "make": lambda threads: Reader(),
            "threads": 1,
            "home": tmp_path,
            "output": tmp_path / "out",
            "token": ".token",
            "overlay": False,
            "outputs": (".json",),
            "workers": 2,
        }
        return Labeller(Work(**work | changes), Handle(tally))

    return make


def answers(labeller: Labeller, *paths: str) -> list[tuple[str, str]]:
    batch = {"path": [os.fsencode(path) for path in paths], "stem": [os.fsencode(Path(path).stem) for path in paths]}
    given = labeller(batch)
    return list(zip(given["kind"], map(os.fsdecode, given["words"]), strict=True))


def test_images_are_labelled_and_written(start, tmp_path):
    assert answers(start(), "in/0.png", "in/1.png") == [(DONE, "said of 0.png"), (DONE, "said of 1.png")]
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"0.json", "1.json"}


def test_a_name_that_is_no_unicode_travels(start, tmp_path):
    name = os.fsdecode(b"in/\xff.png")
    Path(name).write_bytes(b"x")
    assert answers(start(), name) == [(DONE, f"said of {name[3:]}")]


def test_what_a_lost_worker_had_done_is_not_done_again(start, tmp_path):
    answers(start(), "in/0.png")
    (tmp_path / "out/0.json").unlink()
    assert answers(start(), "in/0.png", "in/1.png")[0] == (DONE, "said of 0.png")
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"1.json"}


def test_an_image_is_tried_twice_and_no_more(start, tally):
    tally.claim("0")
    labeller = start()
    assert labeller({"path": [b"in/0.png"], "stem": [b"0"]})["lost"] == [1]
    for _ in range(2):
        tally.claim("1")
    (found,) = answers(labeller, "in/1.png")
    assert found[0] == PROBLEM
    assert "in/1.png: not labelled, since 2 workers were lost at it" in found[1]


def test_a_spoilt_image_is_a_problem_and_the_next_is_done(start):
    Path("in/0.png").write_bytes(b"spoilt")
    assert answers(start(), "in/0.png", "in/1.png") == [(PROBLEM, "in/0.png: spoilt"), (DONE, "said of 1.png")]


def test_a_full_disk_stops_all_that_follow(start):
    labeller = start(make=lambda threads: FullDisk())
    assert answers(labeller, "in/0.png", "in/1.png") == [(STOP, "0: no space left")] * 2


def test_a_machine_without_the_output_folder_says_so(start, tmp_path):
    ((kind, words),) = answers(start(token=".other"), "in/0.png")
    assert kind == STOP
    assert f"does not see the output folder {tmp_path / 'out'}" in words
    assert "under the same path" in words


def test_a_machine_with_another_version_says_so(start):
    ((kind, words),) = answers(start(version="0.0.1"), "in/0.png")
    assert kind == STOP
    assert "and this one 0.0.1. Install the same on all" in words


def test_relative_paths_start_where_the_command_did(start, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert answers(start(), "in/0.png") == [(DONE, "said of 0.png")]


def test_a_machine_without_the_folder_of_the_command_reads_absolute_paths_alone(start, tmp_path):
    labeller = start(home=tmp_path / "gone")
    found = answers(labeller, "in/0.png", str(tmp_path / "in/1.png"))
    assert [kind for kind, _ in found] == [UNSEEN, DONE]


def test_an_image_that_is_not_there_is_told_apart_from_a_spoilt_one(start, monkeypatch):
    def predict(image: Path) -> Any:
        raise FeathersegError(f"{image}: no such file")

    labeller = start(make=lambda threads: SimpleNamespace(predict=predict))
    assert answers(labeller, "in/9.png", "in/0.png") == [
        (UNSEEN, "in/9.png: no such file"),
        (PROBLEM, "in/0.png: no such file"),
    ]


def test_workers_that_are_lost_while_loading_are_not_replaced_for_ever(start, tally):
    for _ in range(4):
        tally.begin_loading()
    ((kind, words),) = answers(start(), "in/0.png")
    assert kind == STOP
    assert "lost before they can begin" in words


def test_workers_that_have_loaded_are_not_counted_as_lost(start, tally):
    for _ in range(9):
        start()
    assert tally.loading == 0
    assert answers(start(), "in/0.png") == [(DONE, "said of 0.png")]


def test_the_threads_of_a_worker_are_those_it_is_given(start):
    seen = []

    def make(threads: int) -> Reader:
        seen.append(threads)
        return Reader()

    start(make=make, threads=3)
    assert seen == [3]
