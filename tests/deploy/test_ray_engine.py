"""A Ray cluster: what one process would have done, whatever becomes of the workers."""

import os
import socket
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ray_predictors import Gone, die, reader, refuse

from featherseg.cli.main import main
from featherseg.deploy.files import OUTPUTS, ImageFile, Outcome
from featherseg.deploy.ray_cluster import Cluster, check_somebody_listens, connected
from featherseg.deploy.ray_engine import Crew, is_finished, predict_files_on_ray
from featherseg.errors import FeathersegError
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, save_weights

ALL = {f"{number % 3}/{number}.json" for number in range(30)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers' room on this machine; the runs below find it connected."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where workers find the predictors of these tests
        patch.delenv("RAY_ADDRESS", raising=False)
        with connected(None, 2, 1) as found:
            yield found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(30):
        (tmp_path / f"in/{number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"in/{number % 3}/{number}.png").write_bytes(b"x")
    return tmp_path / "in"


class Run:
    """A run of two workers and what it said."""

    def __init__(self, make, images: Path, jobs: int = 2, **options: Any) -> None:
        self.problems: list[str] = []
        self.told: list[str] = []
        self.done: dict[str, str] = {}
        self.progress: list[int] = []
        self.left_out: list[int] = []
        self.folder = images.parent / "out"
        self.outcome = predict_files_on_ray(
            make,
            [images],
            self.folder,
            crew=Crew(jobs, threads=1),
            outputs=(".json",),
            problem=self.problems.append,
            told=self.told.append,
            left_out=self.left_out.append,
            progress=self.progress.append,
            done=lambda image, words: self.done.update({image.stem: words}),
            **options,
        )

    def written(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}


def test_every_image_is_done_once_and_spoilt_ones_are_reported(cluster, images):
    (images / "1/4.png").write_bytes(b"spoilt")
    run = Run(reader, images)
    assert run.outcome == Outcome(29, 1)
    assert run.written() == ALL - {"1/4.json"}
    assert run.problems == [f"{images / '1/4.png'}: spoilt"]
    assert run.progress == list(range(1, 31))
    assert run.done["0/3"] == "said of 3.png"
    assert run.told == []


def test_a_killed_worker_is_told_and_its_image_done_again(cluster, images):
    run = Run(partial(reader, images.parent / "killed", "5"), images)
    assert run.outcome == Outcome(30, 0)
    assert run.written() == ALL
    lost = [line for line in run.told if "lost" in line]  # a cluster in use says that it waits, too
    assert lost == [f"a worker was lost at {images / '2/5.png'}; the image was done again, nothing else is lost"]


def test_an_image_that_kills_every_worker_is_left_out_and_its_remains_removed(cluster, images):
    (images.parent / "out/2").mkdir(parents=True)
    (images.parent / "out/2/.5.json.abc.tmp").write_text("half")
    run = Run(partial(reader, None, "5"), images)
    assert run.outcome == Outcome(29, 1)
    assert run.written() == ALL - {"2/5.json"}
    assert "5.png: not labelled, since 2 workers were lost at it" in run.problems[0]


def test_a_network_that_cannot_be_loaded_is_told_once(cluster, images):
    with pytest.raises(FeathersegError, match=r"on the machine .*: gone.safetensors: no such weights file"):
        Run(refuse, images, jobs=1)


def test_workers_that_are_lost_while_loading_end_the_run(cluster, images):
    with pytest.raises(FeathersegError, match=r"lost before they can begin.*fewer --jobs"):
        Run(die, images, jobs=1)


def test_what_workers_cannot_import_is_told_in_one_line(cluster, images):
    with pytest.raises(FeathersegError, match="the Ray cluster failed: "):
        Run(Gone(), images, jobs=1)


def test_a_second_run_does_nothing_twice(cluster, images):
    first = Run(reader, images)
    before = {name: (first.folder / name).stat().st_mtime_ns for name in ALL}
    (first.folder / "1/4.json").unlink()
    second = Run(reader, images, jobs=1, resume=True)
    assert second.outcome == Outcome(1, 0)
    assert second.left_out == [29]
    assert [name for name in ALL if (second.folder / name).stat().st_mtime_ns != before[name]] == ["1/4.json"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    about = describe_network(network := create_model("fassd_net_l2", 3), "fassd_net_l2", 3)
    place = tmp_path_factory.mktemp("weights") / "small.safetensors"
    return save_weights(place, network.state_dict(), about | {"classes": ["a", "b", "c"]})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 255, (32 + number, 48, 3), np.uint8)
        Image.fromarray(values).save(tmp_path / f"in/{number}.png")
    return tmp_path / "in"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_the_command_writes_what_it_writes_without_a_cluster(cluster, kind, weights, pictures, request, capsys):
    file = weights if kind == "safetensors" else request.getfixturevalue("exported")(kind)
    (pictures / "spoilt.png").write_bytes(b"spoilt")
    given = ["predict", str(pictures), "-w", str(file), "--threads", "1"]
    folders = [pictures.parent / name for name in ("plain", "ray")]
    said = []
    for folder, more in zip(folders, ([], ["--engine", "ray", "--jobs", "2"]), strict=True):
        assert main([*given, "-o", str(folder), *more]) == 2
        said.append(capsys.readouterr())
    plain, ray = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert len(plain) == 12
    assert ray == plain
    assert said[1].err == said[0].err
    assert said[1].out.splitlines() == [f"4 images labelled in {folders[1]}"]


def test_without_images_no_cluster_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "in").mkdir()
    run = Run(refuse, tmp_path / "in")
    assert run.outcome == Outcome(0, 1)
    assert "no images" in run.problems[0]


def test_without_ray_the_message_says_how_to_install_it(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FeathersegError, match=r"pip install 'featherseg\[ray\]'"):
        Run(refuse, images)


def test_a_gpu_that_is_named_is_refused(images):
    with pytest.raises(FeathersegError, match="Ray deals out the GPUs"):
        predict_files_on_ray(
            reader, [images], images.parent / "out", crew=Crew(device="cuda:1"), problem=print, told=print
        )


@pytest.fixture
def port() -> int:
    """One where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_cluster_that_is_not_there_is_told_at_once(port):
    with pytest.raises(FeathersegError, match="nobody answers there"):
        check_somebody_listens(f"127.0.0.1:{port}")


def test_a_client_of_ray_is_refused_with_the_way_that_works():
    with pytest.raises(FeathersegError, match=r"does not run through a Ray client.*--address auto"):
        check_somebody_listens("ray://127.0.0.1:10001")


@pytest.mark.parametrize("address", ["here", "here:", "host:port"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(FeathersegError, match="Write auto or HOST:PORT"):
        check_somebody_listens(address)


@pytest.mark.parametrize(
    ("cpus", "jobs", "threads", "shape"),
    [
        ((8, 8), None, None, (2, 8)),
        ((8, 4), None, None, (2, 4)),
        ((8, 8), 4, None, (4, 4)),
        ((8, 8), 5, None, (5, 2)),
        ((2,), 4, None, (4, 1)),
        ((8, 2), 3, 6, (3, 6)),
    ],
)
def test_the_cpus_of_a_cluster_are_shared_out(cpus, jobs, threads, shape):
    assert Cluster(None, cpus).shape(jobs, threads) == shape


def test_more_threads_than_a_machine_has_are_refused():
    with pytest.raises(FeathersegError, match="--threads 9: the largest machine of the cluster has 8 CPUs"):
        Cluster(None, (8, 2)).shape(None, 9)


@pytest.fixture
def results(tmp_path: Path) -> ImageFile:
    """The results of an image, one second after the other and all younger than it."""
    for second, name in enumerate(["a.jpg", "a.json", "a.png", "a_overlay.png"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
    return ImageFile(tmp_path / "a.jpg", "a")


def finished(image: ImageFile, **options: Any) -> bool:
    return is_finished(image, image.path.parent, OUTPUTS, **{"overlay": True, **options})


def test_complete_results_are_finished(results):
    assert finished(results)
    assert finished(results, since=1.0)


@pytest.mark.parametrize("name", ["a.json", "a.png", "a_overlay.png"])
def test_results_are_not_finished_if_one_is_missing(results, name):
    (results.path.parent / name).unlink()
    assert not finished(results)


def test_an_overlay_that_is_not_asked_for_is_not_missed(results):
    (results.path.parent / "a_overlay.png").unlink()
    assert finished(results, overlay=False)


@pytest.mark.parametrize("name", ["a.jpg", "a.json"])
def test_results_of_an_earlier_image_or_run_are_not_finished(results, name):
    os.utime(results.path.parent / name, (9, 9))
    assert not finished(results)


def test_results_of_earlier_weights_are_not_finished(results):
    assert not finished(results, since=2.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--engine", "rey"], "--engine 'rey' is not known; did you mean 'ray'"),
        (["--address", "auto"], "go with --engine ray"),
        (["--resume"], "go with --engine ray"),
        (["--engine", "ray", "--submission", "cityscapes"], "by one process"),
    ],
)
def test_options_that_do_not_go_together_are_told(given, words, weights, pictures, capsys):
    assert main(["predict", str(pictures), "-w", str(weights), "-o", str(pictures.parent / "out"), *given]) == 2
    assert words in capsys.readouterr().err
