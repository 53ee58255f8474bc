"""Kills a short training many times, resumes each, and compares what it leaves: ``python kill_many.py --kills 50``.

Every training is a process of its own, forked from this one (PyTorch is imported once) and ended by SIGKILL:

* ``--kills N``: at N random moments, evenly over the training's length;
* ``--points``: in mid-save, right before each of the system calls that make a file whole (one killed training each).

Each killed training goes on in a new process, and its weights, best weights and log must equal those of a training
that nobody killed. One line tells the result; the exit code is 1 if any differed. With ``--stages`` a training is a
sequence of three.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import torch
import torch._dynamo  # which every optimiser imports in its first step: once here instead of in every child
from tiny_stages import NAMES, run_sequence, sequence, sequence_traces
from tiny_task import run_tiny, tiny_recipe, traces

from featherseg.training.checkpoint import has_checkpoint

CALLS = ("fsync", "replace", "link")


@dataclass(frozen=True)
class Training:
    """``start`` begins one of so many steps in a folder or goes on with the one there; ``left`` says what it leaves.

    ``begun`` says whether there is a checkpoint.
    """

    start: Callable[[Path, int], Any]
    left: Callable[[Path], dict[str, str]]
    begun: Callable[[Path], bool]


def in_child(work: Callable[[], Any]) -> int:
    """Start ``work`` in a forked process and return its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    return child


def train(folder: Path, steps: int) -> None:
    """One training with averaged weights."""
    train = {"steps": steps, "checkpoint_every": 2, "evaluate_every": 1, "ema": 0.9}
    run_tiny(folder, tiny_recipe(train=train), resume=has_checkpoint(folder))


def train_sequence(folder: Path, steps: int) -> None:
    """A sequence of three, as many steps in all, or one more or two."""
    stages = [stage.model_dump() for stage in sequence().stages]
    for stage in stages:
        stage["train"]["steps"] = -(-steps // len(stages))
    run_sequence(sequence(stages=stages), folder, resume=has_checkpoint(folder / NAMES[0]))


ONE = Training(train, traces, has_checkpoint)
SEQUENCE = Training(train_sequence, sequence_traces, lambda folder: has_checkpoint(folder / NAMES[0]))


def train_and_die(training: Training, folder: Path, steps: int, point: int) -> None:
    """Train until the ``point``-th of the calls that make a file whole, and be killed right before it."""
    count = 0

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name)))
    training.start(folder, steps)


def finish(training: Training, folder: Path, steps: int) -> dict[str, str]:
    """Go on to the end in a new process; what the training left."""
    status = os.waitstatus_to_exitcode(os.waitpid(in_child(lambda: training.start(folder, steps)), 0)[1])
    if status:
        raise SystemExit(f"a resumed training failed with status {status}")
    left = training.left(folder)
    shutil.rmtree(folder)
    return left


def kill_at_random(
    training: Training, place: Path, kills: int, steps: int, expected: dict[str, str], seed: int
) -> tuple[int, str]:
    """How many of ``kills`` trainings came out the same, and what the kills hit."""
    chance = random.Random(seed)
    began = time.monotonic()
    os.waitpid(in_child(lambda: training.start(place / "timed", steps)), 0)
    length = time.monotonic() - began
    same = killed = saving = unsaved = 0
    while killed < kills:
        folder = place / f"kill-{killed}"
        child = in_child(lambda folder=folder: training.start(folder, steps))
        time.sleep(chance.uniform(0, length))
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            shutil.rmtree(folder)  # it was done already: another draw
            continue
        killed += 1
        saving += bool(list(folder.rglob(".*")))
        unsaved += not training.begun(folder)
        same += finish(training, folder, steps) == expected
    return same, f"{saving} in mid-save, {unsaved} before the first checkpoint"


def kill_at_points(training: Training, place: Path, steps: int, expected: dict[str, str]) -> tuple[int, int]:
    """How many trainings killed in mid-save came out the same, and how many there were."""
    same = point = 0
    while True:
        folder = place / f"point-{point}"
        child = in_child(lambda folder=folder, at=point + 1: train_and_die(training, folder, steps, at))
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return same, point
        point += 1
        same += finish(training, folder, steps) == expected


def main() -> int:
    """Run what the command line asks for; 0 if every killed training came out the same."""
    parser = argparse.ArgumentParser(description="Kill a short training many times and compare what it leaves.")
    parser.add_argument("--kills", type=int, default=0, help="random moments")
    parser.add_argument("--points", action="store_true", help="every point of every save")
    parser.add_argument("--stages", action="store_true", help="a sequence of three trainings instead of one")
    parser.add_argument("--steps", type=int, default=40, help="of the training")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    torch.set_num_threads(1)
    training = SEQUENCE if options.stages else ONE
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.waitpid(in_child(lambda: training.start(place / "whole", options.steps)), 0)
        expected = training.left(place / "whole")
        digest = expected["weights.safetensors"][:16]
        if options.points:
            same, kills = kill_at_points(training, place, options.steps, expected)
            hit = "before each call that makes a file whole"
        else:
            kills = options.kills
            same, hit = kill_at_random(training, place, kills, options.steps, expected, options.seed)
    print(f"{kills} kills ({hit}), {kills} resumed: {same} identical to the unkilled run (weights sha256 {digest})")
    return int(same != kills or kills == 0)


if __name__ == "__main__":
    sys.exit(main())
