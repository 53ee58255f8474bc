"""How long the four networks of the mobile paper take in LiteRT on this CPU, by the protocol of its Table 5.

Türkmen and Heikkilä 2019: 224x224 (their published code exports 225x225), a warm-up, then the mean and the variance of
300 frames; normalising and arg-max are measured, resizing is not. Ours are `featherseg export`ed with fresh weights,
which take the same time as trained ones, and with the padding of the published code. A frame is one uint8 image handed
to the interpreter and one label map read back.

All files are measured in one process, a few frames of each in turn. A phone's milliseconds say nothing about this
machine's: what can be compared is the order of the networks and their ratios.
"""

import statistics
import tempfile
import time
from itertools import product
from pathlib import Path

import torch
from torch import nn

from featherseg.deploy.export import export
from featherseg.deploy.litert import LiteRTSegmenter
from featherseg.deploy.parity import noise_pictures
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network
from measuring import finish, interleaved, load_average, parser

# Table 5: mean and variance of the milliseconds on a OnePlus A6, and the size of the file in MB.
PAPER = {
    "shufflenet_v2_basic": (50.89, 0.57, 4.6),
    "shufflenet_v2_dpc": (64.89, 3.53, 6.0),
    "mobilenet_v2_basic": (101.46, 25.04, 8.4),
    "mobilenet_v2_dpc": (116.16, 44.01, 9.9),
}
REFERENCE = "shufflenet_v2_basic"  # what the ratios are to
FRAMES_IN_TURN = 10


class Contestant:
    """One file, one image, and the milliseconds of every frame after the warm-up."""

    def __init__(self, file: Path, threads: int) -> None:
        self.program = LiteRTSegmenter(file, threads=threads).program
        self.image = next(noise_pictures(self.program.size))[1]
        self.milliseconds: list[float] = []

    def warm_up(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.program.labels(self.image)

    def __call__(self) -> float:
        for _ in range(FRAMES_IN_TURN):
            began = time.perf_counter()
            self.program.labels(self.image)
            self.milliseconds.append((time.perf_counter() - began) * 1000)
        return statistics.mean(self.milliseconds[-FRAMES_IN_TURN:])


def exported(name: str, side: int, int8: bool, folder: Path) -> tuple[Path, int]:
    """The file of a network with fresh weights, and its bytes."""
    torch.manual_seed(0)
    network = create_model(name, padding="tf_same").eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias, std=0.1)  # zeros would be stored once for all layers, trained biases are not
    about = describe_network(network, name, 19, {"padding": "tf_same"})
    file = folder / f"{name}.{side}.{'int8' if int8 else 'fp32'}.tflite"
    # An int8 file with fresh weights labels as it likes; its speed is the same.
    report = export(network, about, "litert", file, size=(side, side), int8=int8, count=10, force=int8)
    if report.file is None:
        raise SystemExit(f"{name} at {side}x{side} does not label as PyTorch does: {report.parity}")
    return file, report.size_bytes


def figures_of(times: dict[str, list[float]], sizes: dict[str, int], kind: str) -> dict[str, object]:
    """Mean, variance, ratio to the reference and size of the four files of one kind."""
    names = [name for name in PAPER if f"{name} {kind}" in times]
    means = {name: statistics.mean(times[f"{name} {kind}"]) for name in names}
    made: dict[str, object] = {}
    for name in names:
        measured = times[f"{name} {kind}"]
        made[f"{name} {kind}"] = {
            "mean_ms": round(means[name], 3),
            "variance_ms2": round(statistics.pvariance(measured), 3),
            "median_ms": round(statistics.median(measured), 3),
            "frames_per_second": round(1000 / means[name], 1),
            "ratio": round(means[name] / means[REFERENCE], 3),
            "megabytes": round(sizes[f"{name} {kind}"] / 1e6, 2),
        }
    made[f"order {kind}"] = " < ".join(sorted(names, key=lambda name: means[name]))
    return made


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--sides", type=int, nargs="+", default=[224, 225], help="image sides (default 224 225)")
    arguments.add_argument("--frames", type=int, default=300, help="measured frames of each file (default 300)")
    arguments.add_argument("--warm-up", type=float, default=30.0, help="seconds of each file (default 30, the paper's)")
    arguments.add_argument("--threads", type=int, default=1, help="of the interpreter (default 1)")
    arguments.add_argument("--int8", action="store_true", help="measure int8 files as well")
    options = arguments.parse_args()
    load = load_average()
    contestants: dict[str, Contestant] = {}
    sizes: dict[str, int] = {}
    kinds = [f"{side} {word}" for side, word in product(options.sides, ["fp32", "int8"] if options.int8 else ["fp32"])]
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in product(PAPER, kinds):
            side, word = kind.split()
            file, sizes[f"{name} {kind}"] = exported(name, int(side), word == "int8", Path(folder))
            contestants[f"{name} {kind}"] = Contestant(file, options.threads)
            print(f"exported {name} {kind}", flush=True)
    for contestant in contestants.values():
        contestant.warm_up(options.warm_up)
    interleaved(contestants, -(-options.frames // FRAMES_IN_TURN))
    times = {name: contestant.milliseconds[: options.frames] for name, contestant in contestants.items()}
    figures: dict[str, object] = {}
    for kind in kinds:
        figures |= figures_of(times, sizes, kind)
    reference = PAPER[REFERENCE][0]
    paper = {
        f"{name} 224 fp32": {
            "mean_ms": mean,
            "variance_ms2": variance,
            "ratio": round(mean / reference, 3),
            "megabytes": megabytes,
        }
        for name, (mean, variance, megabytes) in PAPER.items()
    }
    for name, value in paper.items():
        print(f"paper, {name}: {value}")
    finish(
        "litert speed",
        f"Table 5 of Türkmen and Heikkilä 2019: mean of {options.frames} frames after a warm-up, "
        "normalising and arg-max included",
        figures,
        options.card,
        load,
        seeds=[0],
        paper=paper,
        threads=options.threads,
        warm_up_seconds=options.warm_up,
        notes="The paper's figures are a phone's (OnePlus A6) with TensorFlow Lite; compare ratios and order alone.",
    )


if __name__ == "__main__":
    main()
