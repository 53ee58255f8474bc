"""From a uint8 image to its uint8 label map in each runtime, against plain PyTorch with interpolate and arg-max.

Shipped weights are exported into a temporary folder, through the parity gate, and every contestant labels the same
procedural street scene in interleaved rounds of one process, with as many threads each:

- `torch, interpolate`: eager float32, logits enlarged to full size, arg-max: what most code does;
- `torch, cells`: the same network, the label map by deploy/labels.py;
- `onnx`, `openvino fp32`, `openvino bf16`: sessions of the exported file, the label map likewise.

`outside` is the share of the time that is not the network's: what is left when the network alone, from normalised or
raw pixels to logits, is taken off; of PyTorch the normalising counts as outside. `equal` is the share of pixels
labelled as plain PyTorch labels them.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from featherseg.data.streets import Streets
from featherseg.deploy.export import export, network_and_metadata
from featherseg.deploy.exported import load_exported
from featherseg.deploy.openvino import has_bf16
from featherseg.deploy.segmenter import segmenter
from featherseg.deploy.session import labels_of
from measuring import finish, interleaved, load_average, parser

PLAIN = "torch, interpolate"


class Contestant:
    """One way from image to label map, timed whole and in its network's part, in milliseconds."""

    def __init__(self, network: Callable[[], torch.Tensor], finish: Callable[[torch.Tensor], np.ndarray]) -> None:
        self.network, self.finish = network, finish
        self.network_ms: list[float] = []

    def labels(self) -> np.ndarray:
        return self.finish(self.network())

    def __call__(self) -> float:
        began = time.perf_counter()
        found = self.network()
        between = time.perf_counter()
        self.finish(found)
        self.network_ms.append(1000 * (between - began))
        return 1000 * (time.perf_counter() - began)


def figures_of(times: list[float], network: list[float], equal: float, plain: float) -> dict[str, float]:
    """Percentiles in ms, the ratio to the plain way, and percents."""
    share = 1 - statistics.median(network) / statistics.median(times)
    percentiles = {f"p{q}_ms": round(float(np.percentile(times, q)), 3) for q in (50, 90, 99)}
    return percentiles | {
        "times_as_fast": round(plain / statistics.median(times), 2),
        "outside_percent": round(100 * share, 1),
        "equal_percent": round(100 * equal, 3),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--weights", default="fassd_net_l2.camvid", help="shipped weights or a file")
    arguments.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))
    arguments.add_argument("--rounds", type=int, default=50, help="interleaved rounds (default 50)")
    arguments.add_argument("--threads", type=int, default=2, help="of every contestant (default 2)")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    load_before = load_average()
    size = (options.size[0], options.size[1])
    image = Streets("val", 1, size=size, seed=0).read(0).image
    network, about = network_and_metadata(options.weights)
    plain = segmenter(network, about)
    spec, pixels = plain.input_spec, torch.from_numpy(image)[None]

    def enlarged(logits: torch.Tensor) -> np.ndarray:
        return spec.enlarge(logits, size).argmax(1)[0].to(torch.uint8).numpy()

    def by_cells(logits: torch.Tensor) -> np.ndarray:
        return labels_of(logits[0], "logits", spec, size).labels

    runs = {
        PLAIN: Contestant(lambda: plain.session.run(pixels), enlarged),
        "torch, cells": Contestant(lambda: plain.session.run(pixels), by_cells),
    }
    with tempfile.TemporaryDirectory() as folder:
        for runtime, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
            file = Path(folder) / f"exported{suffix}"
            if export(network, about, runtime, file).file is None:
                raise SystemExit(f"{runtime}: does not label as PyTorch does")
            precisions = ("fp32", "bf16") if runtime == "openvino" and has_bf16() else ("fp32",)
            for precision in precisions:
                loaded = load_exported(file, precision=precision, threads=options.threads)
                name = f"{runtime} {precision}" if runtime == "openvino" else runtime
                runs[name] = Contestant(lambda loaded=loaded: loaded.session.run(pixels), by_cells)
    expected = runs[PLAIN].labels()
    equal = {}
    for name, contestant in runs.items():
        for _ in range(3):  # programs of one size and compiled loops are made when something comes again
            found = contestant.labels()
        equal[name] = float((found == expected).mean())
    times = interleaved(runs, options.rounds)
    normalising = []
    for _ in range(5):
        began = time.perf_counter()
        spec.normalise(pixels)
        normalising.append(1000 * (time.perf_counter() - began))
    reference = statistics.median(times[PLAIN])
    figures = {}
    for name, contestant in runs.items():
        off = statistics.median(normalising) if name.startswith("torch") else 0.0
        network_ms = [taken - off for taken in contestant.network_ms]
        figures[name] = figures_of(times[name], network_ms, equal[name], reference)
    finish(
        "runtimes",
        f"{options.weights} at {size[0]}x{size[1]}, uint8 image to uint8 label map, batch norm folded in files",
        figures,
        options.card,
        load_before,
        seeds=[0],
        threads=options.threads,
        versions={name: metadata.version(name) for name in ("torch", "onnxruntime", "openvino")},
    )


if __name__ == "__main__":
    main()
