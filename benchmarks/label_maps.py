"""How long it takes from low-resolution logits to the full label map, against PyTorch's enlarging and arg-max.

The logits are of three kinds: what shipped weights give for a procedural street scene of the full size; a class drawn
at random for every logit pixel, so that a boundary crosses every cell; and noise, where besides every class is a rival
everywhere, the worst there can be. Labels are held against PyTorch's before anything is timed. Rounds are interleaved
in one process, threads pinned; `skipped, %` is the share of cells that needed no evaluation. With `--device cuda` the
logits lie on the GPU, the maps stay there, and CUDA events tell the time.
"""

import time
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from featherseg.data.streets import Streets
from featherseg.deploy.labels import labels_of_cells
from featherseg.deploy.segmenter import load
from featherseg.deploy.session import choose_device
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec
from measuring import finish, interleaved, load_average, parser, summary


def network_logits(weights: str, image: np.ndarray, side: tuple[int, int], classes: int) -> Tensor:
    """Logits ``[classes, h, w]`` of shipped weights, resized to ``side``; lacking classes lie below."""
    segmenter = load(weights)
    with torch.inference_mode():
        pixels = segmenter.input_spec.normalise(torch.from_numpy(image)[None])
        found = segmenter.network(pixels).logits
        found = F.interpolate(found, size=side, mode="bilinear", align_corners=True)[0]
    torch.manual_seed(0)
    rest = found.mean() + found.std() * (torch.randn(classes - len(found), *side) * 0.1 - 1)
    return torch.cat([found, rest]).contiguous()


def enlarged(logits: Tensor, spec: InputSpec, size: tuple[int, int]) -> Tensor:
    """The plain way: every class at full size, then the largest."""
    return spec.enlarge(logits[None], size).argmax(1)[0].to(torch.uint8)


def our_way(device: torch.device) -> tuple[str, Callable[[Tensor, InputSpec, tuple[int, int]], Tensor]]:
    """The way that this benchmark is about and its name: by cells on a CPU, by tiles on a GPU."""
    if device.type == "cpu":
        return "cells", lambda logits, spec, size: torch.from_numpy(labels_of_cells(logits.numpy(), spec, size))
    try:
        from featherseg.deploy.label_triton import labels_of_tiles, order_on
    except ImportError:
        raise SystemExit("--device cuda takes Triton: pip install 'featherseg[triton]'") from None
    order = order_on(device)
    if order is None:
        raise SystemExit("Triton cannot run here, or gives other labels than PyTorch: maps are PyTorch's own")
    return "tiles", lambda logits, spec, size: labels_of_tiles(logits, spec, size, order)[0]


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """How long ``work`` takes, on a GPU by its own clock."""
    if device.type == "cpu":
        began = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - began)
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended)


def skipped(logits: Tensor) -> float:
    """Percent of cells whose corners agree."""
    winner = logits.argmax(0)
    corner = winner[:-1, :-1]
    same = (corner == winner[1:, :-1]) & (corner == winner[:-1, 1:]) & (corner == winner[1:, 1:])
    return round(100 * float(same.float().mean()), 1)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"), help="of the label map"
    )
    arguments.add_argument("--stride", type=int, default=8, help="of the logits (default 8)")
    arguments.add_argument("--classes", type=int, default=19, help="of the logits (default 19)")
    arguments.add_argument("--weights", default="fassd_net_l2.camvid", help="shipped weights that give the logits")
    arguments.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default 9)")
    arguments.add_argument("--threads", type=int, default=1, help="of both (default 1)")
    arguments.add_argument("--device", default="cpu", help="cpu (default) or cuda, which takes Triton")
    options = arguments.parse_args()
    try:
        device = choose_device(options.device)
    except FeathersegError as error:
        raise SystemExit(str(error)) from None
    torch.set_num_threads(options.threads)
    load_before = load_average()
    size = tuple(options.size)
    low = (size[0] // options.stride, size[1] // options.stride)
    street = Streets("val", 1, size=size, seed=0).read(0).image
    random = np.random.default_rng(0)
    drawn = random.integers(options.classes, size=low)
    sure = 10.0 * (np.arange(options.classes)[:, None, None] == drawn)
    noise = random.normal(size=(options.classes, *low))
    kinds = {
        "street": network_logits(options.weights, street, low, options.classes),
        "boundaries": torch.from_numpy(sure + noise).float(),
        "noise": torch.from_numpy(noise).float(),
    }
    figures: dict[str, object] = {}
    ours, labels_of = our_way(device)
    for (kind, logits), aligned in product(kinds.items(), (True, False)):
        spec, logits = InputSpec(align_corners=aligned), logits.to(device)
        if not torch.equal(labels_of(logits, spec, size), enlarged(logits, spec, size)):
            raise SystemExit(f"{kind}: the labels differ from PyTorch's")
        contestants: dict[str, Callable[[], object]] = {
            ours: lambda logits=logits, spec=spec: labels_of(logits, spec, size),
            "enlarged": lambda logits=logits, spec=spec: enlarged(logits, spec, size),
        }
        name = f"{kind}, corners {'aligned' if aligned else 'not aligned'}"
        print(name)
        runs = {way: (lambda work=work: milliseconds(work, device)) for way, work in contestants.items()}
        times = {way: summary(taken) for way, taken in interleaved(runs, options.rounds, print).items()}
        figures |= {f"{name}, {way}, ms": taken for way, taken in times.items()}
        figures[f"{name}, enlarged / {ours}"] = round(times["enlarged"]["median"] / times[ours]["median"], 1)
        figures[f"{name}, skipped, %"] = skipped(logits)
    finish(
        "label maps",
        f"{options.classes} classes, {low[0]}x{low[1]} to {size[0]}x{size[1]}, float32, medians of rounds",
        figures,
        options.card,
        load_before,
        seeds=[0],
        threads=options.threads,
        device=device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
    )


if __name__ == "__main__":
    main()
