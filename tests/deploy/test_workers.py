"""Several processes: what one would have done, whatever becomes of them."""

from functools import partial
from pathlib import Path

import pytest
from job_predictors import Reader, die, refuse

from featherseg.deploy.files import Outcome
from featherseg.deploy.workers import predict_files_in_processes
from featherseg.errors import FeathersegError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(12):
        (tmp_path / f"in/{number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"in/{number % 3}/{number}.png").write_bytes(b"x")
    return tmp_path / "in"


class Run:
    """A run of two processes and what it said."""

    def __init__(self, make, images: Path, jobs: int = 2) -> None:
        self.problems: list[str] = []
        self.told: list[str] = []
        self.done: dict[str, str] = {}
        self.progress: list[int] = []
        self.folder = images.parent / "out"
        self.outcome = predict_files_in_processes(
            make,
            [images],
            self.folder,
            jobs=jobs,
            outputs=(".json",),
            problem=self.problems.append,
            told=self.told.append,
            progress=self.progress.append,
            done=lambda image, words: self.done.update({image.stem: words}),
        )

    def written(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}


ALL = {f"{number % 3}/{number}.json" for number in range(12)}


def test_every_image_is_done_once_and_spoilt_ones_are_reported(images):
    (images / "1/4.png").write_bytes(b"spoilt")
    run = Run(Reader, images)
    assert run.outcome == Outcome(11, 1)
    assert run.written() == ALL - {"1/4.json"}
    assert len(run.problems) == 1
    assert "4.png: spoilt" in run.problems[0]
    assert run.progress == list(range(1, 13))
    assert run.done["0/3"] == "said of 3.png"
    assert run.told == []


def test_a_killed_worker_is_told_and_its_image_done_again(images):
    run = Run(partial(Reader, images.parent / "killed", "5"), images)
    assert run.outcome == Outcome(12, 0)
    assert run.written() == ALL
    assert len(run.told) == 1
    assert "was killed (SIGKILL) at" in run.told[0]
    assert "5.png" in run.told[0]


def test_an_image_that_kills_every_worker_is_left_out_and_its_remains_removed(images):
    (images.parent / "out/2").mkdir(parents=True)
    (images.parent / "out/2/.5.json.abc.tmp").write_text("half")
    run = Run(partial(Reader, None, "5", "SIGTERM"), images)
    assert run.outcome == Outcome(11, 1)
    assert run.written() == ALL - {"2/5.json"}
    assert "5.png: not labelled, since 2 processes died at it" in run.problems[0]
    assert "SIGTERM" in run.problems[0]


def test_a_network_that_cannot_be_loaded_is_told_once(images):
    with pytest.raises(FeathersegError, match="no such weights file"):
        Run(refuse, images)


def test_processes_that_die_while_loading_are_not_replaced_for_ever(images):
    with pytest.raises(FeathersegError, match=r"end before they can begin.*fewer --jobs"):
        Run(die, images, jobs=1)


def test_no_images_need_no_process(tmp_path):
    (tmp_path / "in").mkdir()
    run = Run(die, tmp_path / "in")
    assert run.outcome == Outcome(0, 1)
    assert "no images" in run.problems[0]


def test_no_processes_are_refused(images):
    with pytest.raises(FeathersegError, match="at least 1"):
        Run(Reader, images, jobs=0)
