"""What output strides 32, 16 and 8 cost the mobile networks, in inference and in training: MACs, time, memory.

Inference is one float32 image through a network in `eval()`; training is a step of bfloat16 autocast, channels_last and
SGD, with the loss on enlarged logits as recipes have it. Times are medians of interleaved rounds in one process with
pinned threads. Memory is what a new process's peak grows by from before the first image to after a few: the libraries,
the weights and their optimiser's state are there before and do not count.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product

import torch
from torch import nn

from featherseg.bench.complexity import count
from featherseg.data.labels import CAMVID11, IGNORE
from featherseg.models.registry import create_model
from featherseg.recipes.schema import Loss
from featherseg.training.segmentation import criterion
from featherseg.training.task import UpdateSize
from measuring import finish, interleaved, load_average, parser, peak_mib, reset_peak, summary
from steps import scenes

MODELS = ("shufflenet_v2_dpc", "mobilenet_v2_dpc")
STRIDES = (32, 16, 8)
MODES = ("inference", "training")


def network_of(model: str, stride: int) -> nn.Module:
    torch.manual_seed(0)
    return create_model(model, len(CAMVID11), output_stride=stride).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def frame(model: str, stride: int, size: tuple[int, int]) -> Callable[[], float]:
    """One image through the network: a function that gives its milliseconds."""
    network = network_of(model, stride).eval()
    image = torch.rand(1, 3, *size).to(memory_format=torch.channels_last)

    def run() -> float:
        with torch.inference_mode():
            began = time.perf_counter()
            network(image)
            return 1000 * (time.perf_counter() - began)

    return run


def training_step(model: str, stride: int, size: tuple[int, int], batch: int) -> Callable[[], float]:
    """One update on procedural scenes: a function that gives its milliseconds."""
    network = network_of(model, stride).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images, labels = (torch.from_numpy(array) for array in scenes(size, batch))
    whole = UpdateSize(float((labels != IGNORE).sum()), batch)
    spec = network.input_spec

    def run() -> float:
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            output = network(spec.normalise(images).contiguous(memory_format=torch.channels_last))  # type: ignore[operator]
        criterion(output, labels, Loss(), spec, weight=whole.weight, total=whole).backward()  # type: ignore[arg-type]
        optimizer.step()
        return 1000 * (time.perf_counter() - began)

    return run


def work(mode: str, model: str, stride: int, size: tuple[int, int], batch: int) -> Callable[[], float]:
    return frame(model, stride, size) if mode == "inference" else training_step(model, stride, size, batch)


def growth_of_peak(mode: str, model: str, stride: int, size: tuple[int, int], batch: int) -> float:
    """MiB by which this process's peak memory grows in a few runs."""
    run = work(mode, model, stride, size, batch)
    reset_peak()
    before = peak_mib()
    for _ in range(3):
        run()
    return peak_mib() - before


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, nargs=2, default=(360, 640), metavar=("H", "W"), help="of the images")
    arguments.add_argument("--batch", type=int, default=4, help="images of a training step (default 4)")
    arguments.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default 7)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    arguments.add_argument("--memory-of", nargs=3, metavar=("MODE", "MODEL", "STRIDE"), help="measure one peak alone")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    size = tuple(options.size)
    if options.memory_of:
        mode, model, stride = options.memory_of
        print(growth_of_peak(mode, model, int(stride), size, options.batch))
        return
    load = load_average()
    rows: dict[str, dict[str, float]] = {}
    for mode, model in product(MODES, MODELS):
        runs = {str(stride): work(mode, model, stride, size, options.batch) for stride in STRIDES}
        for run in [*runs.values()] * 2:
            run()
        print(f"{mode}, {model}")
        times = {stride: summary(taken) for stride, taken in interleaved(runs, options.rounds, print).items()}
        for stride in STRIDES:
            command = [sys.executable, *sys.argv, "--memory-of", mode, model, str(stride)]
            peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows[f"{mode}, {model}, stride {stride}"] = {
                "gmacs": round(count(model, size, len(CAMVID11), output_stride=stride).conv_macs / 1e9, 3),
                "milliseconds": times[str(stride)]["median"],
                "time_ratio": round(times[str(stride)]["median"] / times["16"]["median"], 2),
                "peak_mib": round(peak, 1),
            }
    finish(
        "output stride",
        f"{size[0]}x{size[1]}; inference: 1 image, fp32; training: batch {options.batch}, bf16; medians of rounds",
        rows,
        options.card,
        load,
        seeds=[0],
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
