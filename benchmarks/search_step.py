"""Time and peak memory of one step of an architecture search, corrected against official, same batch and crop.

A step moves the architectures on one batch and the weights on another; teacher and student are searched together. Each
behaviour runs in a process of its own, which is given steps in interleaved rounds; its peak is the high-water mark of
its resident memory over all steps, less what it had before the first: maps, gradients and the optimisers' memory.
"""

import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

import torch

from featherseg.data.batches import Batch
from featherseg.models.compiled import kernels
from featherseg.recipes.search_reading import read_search
from featherseg.search.latency import supernet_prices
from featherseg.search.steps import Learner
from featherseg.search.task import SearchTask
from measuring import finish, interleaved, load_average, parser, peak_mib, reset_peak, summary


def serve(door: Connection, behaviour: str, options: Any) -> None:
    """Answer every message with the seconds of a step; the word "peak" with the peak in MiB, and end."""
    torch.set_num_threads(options.threads)
    recipe = read_search(
        "fasterseg_search",
        [
            f"behaviour={behaviour}",
            "data.source=streets",
            "data.count=4",
            "data.val_count=2",
            f"data.size={list(options.crop)}",
            "latency.budget=null",
            "latency.keep_fps=[155,175]",
            f"space.layers={options.layers}",
            f"space.base={options.base}",
            "train.device=cpu",
        ],
    )
    task = SearchTask(recipe)
    task.network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    role = task.space.roles[task.searched]
    prices = supernet_prices(
        task.space, role, lambda shape: shape.in_channels * shape.out_channels / 1e4, behaviour=recipe.behaviour
    )
    learner = Learner(task, prices, recipe.latency.weight)
    generator = torch.Generator().manual_seed(0)

    def batch() -> Batch:
        images = torch.randint(0, 256, (options.batch, *options.crop, 3), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, task.classes, (options.batch, *options.crop), generator=generator)
        return Batch(images, labels.to(torch.uint8), ["random"] * options.batch)

    batches = batch(), batch()
    kernels()
    from featherseg.losses import fused  # noqa: F401  loaded, so that its own memory is not counted

    reset_peak()
    before, step = peak_mib(), 0
    while door.recv() != "peak":
        began = time.perf_counter()
        learner.search(*batches, step)
        door.send(time.perf_counter() - began)
        step += 1
    door.send(peak_mib() - before)
    door.send(2 * 4 * sum(one.numel() for one in task.network.weight_parameters()) / 2**20)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--crop", type=int, nargs=2, default=(224, 448), metavar=("H", "W"), help="of the images")
    arguments.add_argument("--batch", type=int, default=2, help="images of a step (default 2)")
    arguments.add_argument("--layers", type=int, default=16, help="of the space (default 16)")
    arguments.add_argument("--base", type=int, default=6, help="of the space; the published one is 12 (default 6)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    arguments.add_argument("--rounds", type=int, default=5, help="measured steps of each (default 5)")
    options = arguments.parse_args()
    load = load_average()
    context = multiprocessing.get_context("spawn")
    doors: dict[str, Connection] = {}
    for behaviour in ("corrected", "official"):
        doors[behaviour], theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, behaviour, options), daemon=True).start()

    def asked(behaviour: str, what: str) -> float:
        doors[behaviour].send(what)
        return doors[behaviour].recv()

    for behaviour in doors:  # compiles, allocates
        asked(behaviour, "step")
    seconds = interleaved(
        {behaviour: lambda behaviour=behaviour: asked(behaviour, "step") for behaviour in doors},
        options.rounds,
        lambda line: print(line, flush=True),
    )
    peaks = {behaviour: asked(behaviour, "peak") for behaviour in doors}
    state = next(iter([door.recv() for door in doors.values()]))
    figures = {
        "corrected, s a step": summary(seconds["corrected"]),
        "official, s a step": summary(seconds["official"]),
        "official over corrected, time": round(
            statistics.median(seconds["official"]) / statistics.median(seconds["corrected"]), 3
        ),
        "corrected, peak MiB": round(peaks["corrected"], 1),
        "official, peak MiB": round(peaks["official"], 1),
        "corrected over official, memory": round(peaks["corrected"] / peaks["official"], 3),
        "gradients and momentum of each, MiB": round(state, 1),
        "corrected over official, maps alone": round((peaks["corrected"] - state) / (peaks["official"] - state), 3),
    }
    finish(
        "search step",
        f"fasterseg_search/{options.crop[0]}x{options.crop[1]}/batch {options.batch}, {options.layers} layers, base "
        f"{options.base}, {options.threads} threads",
        figures,
        options.card,
        load,
        seeds=[0],
    )


if __name__ == "__main__":
    main()
