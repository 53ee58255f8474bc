"""Two gloo processes: the same gradients as one with the double batch, and no waiting for the dead."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from featherseg.data.batches import BatchPlan
from featherseg.errors import FeathersegError
from featherseg.training.checkpoint import load_checkpoint
from featherseg.training.distributed import World, join_world, wrap
from featherseg.training.log import read_log
from featherseg.training.loop import _check_batches

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without processes")
SCRIPT = Path(__file__).with_name("two_processes.py")


def run_script(scenario: str, folder: Path) -> str:
    command = [sys.executable, str(SCRIPT), scenario, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_two_processes_equal_one_with_the_double_batch_when_batch_norm_is_frozen(tmp_path: Path) -> None:
    """Shares of three and two samples with unequal numbers of labels; with accumulated parts, of unequal number too.

    The learning rate turns equal weights after four steps into equal gradients at every step.
    """
    run_script("equal", tmp_path)
    for parts in (1, 2):
        one, two = (tmp_path / f"{count}-{parts}" for count in (1, 2))
        losses = [[entry["loss"] for entry in read_log(folder) if "loss" in entry] for folder in (one, two)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        expected = load_checkpoint(one).group("model")
        for name, tensor in load_checkpoint(two).group("model").items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_others_do_not_wait_for_a_process_that_died(tmp_path: Path) -> None:
    statuses, _, seconds = run_script("dies", tmp_path).strip().rpartition(" ")
    assert statuses == "[7, -9]"
    assert float(seconds) < 60


def test_a_batch_smaller_than_the_number_of_processes_is_refused() -> None:
    world = World(0, 4, torch.device("cpu"))
    _check_batches(BatchPlan(16, 8), world)
    _check_batches(BatchPlan(17, 8, drop_last=True), world)
    with pytest.raises(FeathersegError, match=r"smallest batch holds 1 samples for 4 processes.*drop_last"):
        _check_batches(BatchPlan(17, 8), world)


def test_a_single_process_needs_no_group() -> None:
    world = join_world("cpu")
    network = torch.nn.Linear(1, 1)
    assert (world.rank, world.size, world.is_main) == (0, 1, True)
    assert (world.sum(2.5), world.any(True), world.any(False)) == (2.5, True, False)
    assert wrap(network, world, sync_bn=True) is network


def test_batch_norm_cannot_be_synchronised_without_gpus() -> None:
    world = World(0, 2, torch.device("cpu"))
    with pytest.raises(FeathersegError, match=r"sync_bn=true.*GPUs alone"):
        wrap(torch.nn.BatchNorm2d(1), world, sync_bn=True)
