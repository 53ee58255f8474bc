"""What it is worth that a training keeps the memory it frees (`featherseg.training.memory`), and what it costs.

Each contestant is a process of its own, since the setting has no way back: featherseg's training loop on one batch,
once as it is, and once with glibc's own behaviour, in interleaved rounds. A setting of glibc in the environment
(`MALLOC_ARENA_TEST`, at its default) makes featherseg leave it alone. Processor time is told beside the time.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from featherseg.training.loop import train
from measuring import finish, interleaved, load_average, parser, summary
from steps import FixedTask, recipe, scenes

GLIBC = {"MALLOC_ARENA_TEST": "8"}


def measure(model: str, size: tuple[int, int], batch: int, steps: int, warm_up: int, threads: int) -> dict[str, float]:
    """Time of a step in this process, after ``warm_up`` steps that are not counted, and the process's peak memory."""
    marks: list[tuple[float, float, float]] = []

    def note(_: dict[str, Any]) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        marks.append((time.perf_counter(), used.ru_utime + used.ru_stime, used.ru_stime))

    torch.set_num_threads(threads)
    settings = recipe(model, batch, steps + warm_up, threads)
    task = FixedTask(settings, *scenes(size, batch))
    with tempfile.TemporaryDirectory() as folder:
        train(task, settings, Path(folder), progress=note)
    first, last = marks[warm_up - 1], marks[-1]
    passed, processor, kernel = ((after - before) / steps for before, after in zip(first, last, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": passed, "processor": processor, "kernel": kernel, "peak_mib": peak}


def in_a_process(order: dict[str, Any], environment: dict[str, str], found: list[dict[str, float]]) -> float:
    """Seconds of processor time a step; everything that was measured is added to ``found``."""
    command = [sys.executable, __file__, "--measure", json.dumps(order)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(command, env=own | environment, stdout=subprocess.PIPE, text=True, check=True)
    found.append(json.loads(done.stdout.splitlines()[-1]))
    return found[-1]["processor"]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--models", nargs="+", default=["fassd_net_l2", "drbanet", "shufflenet_v2_dpc"])
    arguments.add_argument("--size", type=int, nargs=2, default=(288, 384), metavar=("H", "W"), help="of the images")
    arguments.add_argument("--batch", type=int, default=8, help="images of a step (default 8)")
    arguments.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    arguments.add_argument("--steps", type=int, default=8, help="counted steps of a round (default 8)")
    arguments.add_argument("--warm-up", type=int, default=3, help="steps of a round that are not counted (default 3)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    arguments.add_argument("--measure", metavar="JSON", help="only measure, in this process")
    options = arguments.parse_args()
    if options.measure:
        print(json.dumps(measure(**json.loads(options.measure))))
        return
    load = load_average()
    figures: dict[str, object] = {}
    for model in options.models:
        order = {name: getattr(options, name) for name in ("size", "batch", "steps", "warm_up", "threads")}
        ways: dict[str, list[dict[str, float]]] = {"kept": [], "given back": []}
        contestants = {
            way: partial(in_a_process, {"model": model, **order}, {} if way == "kept" else GLIBC, ways[way])
            for way in ways
        }
        interleaved(contestants, options.rounds, lambda line, model=model: print(f"{model}, {line}", flush=True))
        medians = {
            way: {name: summary([run[name] for run in runs])["median"] for name in runs[0]}
            for way, runs in ways.items()
        }
        figures |= {f"{model}, {way}": medians[way] for way in ways}
        for name in ("seconds", "processor", "peak_mib"):
            figures[f"{model}, kept / given back, {name}"] = round(
                medians["kept"][name] / medians["given back"][name], 3
            )
    height, width = options.size
    finish(
        "freed memory",
        f"{height}x{width}/batch {options.batch}, {options.steps} steps of a process, median of interleaved rounds",
        figures,
        options.card,
        load,
        seeds=[0],
        threads=options.threads,
        rounds=options.rounds,
    )


if __name__ == "__main__":
    main()
