"""Training in several processes under ``torchrun``: who am I, and sums over all.

gloo on the CPU, NCCL on GPUs. A process that dies takes the others with it: the collectives time out.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import nn

from featherseg.errors import FeathersegError


@dataclass(frozen=True)
class World:
    """This process's place. ``size`` is 1 without ``torchrun``."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def sum(self, value: float) -> float:
        """``value`` summed over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return float(total)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process."""
        return flag if self.size == 1 else self.sum(float(flag)) > 0


def training_device(device: str) -> torch.device:
    """The device that ``train.device`` names: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        FeathersegError: there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise FeathersegError(f"train.device={device!r} is no device. Use auto, cpu, cuda or cuda:0.") from None
    if chosen.type not in ("cpu", "cuda"):
        raise FeathersegError(
            f"train.device={device!r}: training runs on CPUs and CUDA. Use auto, cpu, cuda or cuda:0."
        )
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise FeathersegError(f"train.device={device!r}: PyTorch finds no GPU here. Use train.device=cpu or auto.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise FeathersegError(
            f"train.device={device!r}: there are {torch.cuda.device_count()} GPUs here, counted from 0. Use one of "
            "them, or start fewer processes."
        )
    return chosen


def join_world(device: str = "auto", timeout: timedelta = timedelta(hours=2)) -> World:
    """Read ``torchrun``'s environment and join the process group, if there is one.

    Args:
        device: as :func:`training_device` takes it.
        timeout: after which a collective that others do not join fails. Long, since all wait while the main process
            judges; `torchrun` itself ends the others at once when one dies.

    Raises:
        FeathersegError: there is no such device.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = training_device(device)
    if size > 1 and not torch.distributed.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=timeout)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return World(rank, size, chosen)


def wrap(network: nn.Module, world: World, *, sync_bn: bool) -> nn.Module:
    """``network`` under DistributedDataParallel where there are several processes.

    Raises:
        FeathersegError: batch norm shall be synchronised over processes without GPUs.
    """
    if world.size == 1:
        return network
    if sync_bn:
        if world.device.type != "cuda":
            raise FeathersegError(
                "train.sync_bn=true: PyTorch synchronises batch norm on GPUs alone. Use train.sync_bn=false, and "
                "train.freeze_bn=true where the batch of each process is too small for its own statistics."
            )
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    devices = [world.device] if world.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)
