"""Trains the tiny task in two gloo processes; run by test_distributed.py, once for every scenario.

``python two_processes.py equal|dies FOLDER``: ``equal`` trains with one process and with two and leaves both folders;
``dies`` kills the second process at step 3 and prints how long the first one took to notice.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # which every optimiser imports in its first step: once here instead of in every child
from tiny_task import run_tiny, tiny_recipe


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_processes(count: int, work: Callable[[int], None]) -> list[int]:
    """Fork ``count`` processes with torchrun's environment, run ``work(rank)`` in each; return their exit statuses."""
    port, children = free_port(), []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            try:
                work(rank)
                os._exit(0)
            except BaseException as error:
                print(f"rank {rank}: {type(error).__name__}", file=sys.stderr)
                os._exit(7)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def equal(folder: Path) -> None:
    for parts in (1, 2):
        settings = {"steps": 4, "batch_size": 5, "drop_last": True, "freeze_bn": True, "accumulation": parts}
        recipe = tiny_recipe(train=settings)
        for count in (1, 2):
            statuses = in_processes(count, lambda _: run_tiny(folder / f"{count}-{parts}", recipe) and None)  # noqa: B023
            assert statuses == [0] * count, statuses


def dies(folder: Path) -> None:
    def work(rank: int) -> None:
        def progress(entry: dict[str, Any]) -> None:
            pass

        task_recipe = tiny_recipe(train={"epochs": 500, "batch_size": 2})
        if rank == 1:
            # Only the main process reports progress: the other one counts its own steps by the schedule's calls.
            from featherseg.training import loop

            real, steps = loop.learning_rate_factor, 0

            def counted(*arguments: Any) -> float:
                nonlocal steps
                steps += 1
                if steps == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments)

            loop.learning_rate_factor = counted
        run_tiny(folder, task_recipe, progress=progress)

    began = time.monotonic()
    print(in_processes(2, work), time.monotonic() - began)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"equal": equal, "dies": dies}[sys.argv[1]](Path(sys.argv[2]))
