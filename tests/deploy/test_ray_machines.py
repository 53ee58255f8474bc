"""A cluster of two machines, of which one is lost: both stand for one here, as far as Ray can tell."""

import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ray_predictors import slow_reader

from featherseg.deploy.files import Outcome
from featherseg.deploy.ray_cluster import connected, ray_module
from featherseg.deploy.ray_engine import Crew, predict_files_on_ray


@pytest.fixture
def machines() -> Iterator[Any]:
    """A cluster of two machines with one CPU each, to which this process is not connected."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where workers find the predictors of these tests
        ray_module().shutdown()
        room = {"num_cpus": 1, "object_store_memory": 2**27}
        cluster = ray_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args={**room, "include_dashboard": False}
        )
        cluster.add_node(**room)
        yield cluster
        cluster.shutdown()


def test_a_lost_machine_loses_nothing(machines, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(40):
        (tmp_path / f"in/{number}.png").write_bytes(b"x")
    (lost,) = machines.worker_nodes
    leaving = threading.Thread(target=machines.remove_node, args=(lost,), kwargs={"allow_graceful": False})
    told: list[str] = []

    def progress(count: int) -> None:
        if count == 8:
            leaving.start()

    outcome = predict_files_on_ray(
        slow_reader,
        [tmp_path / "in"],
        tmp_path / "out",
        crew=Crew(address=machines.address),
        outputs=(".json",),
        problem=told.append,
        told=told.append,
        progress=progress,
    )
    leaving.join()
    assert outcome == Outcome(40, 0)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{number}.json" for number in range(40)}
    assert all("a worker was lost at" in line for line in told)


def test_a_cluster_that_is_named_is_connected_to_and_left(machines):
    with connected(machines.address, None, None) as cluster:
        assert cluster.cpus == (1, 1)
        assert cluster.shape(None, None) == (2, 1)
    assert not cluster.ray.is_initialized()
