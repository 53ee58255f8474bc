"""From a uint8 image to its uint8 label map in each runtime, against plain PyTorch with interpolate and arg-max.

What `featherseg bench --against torch` measures, of shipped weights, in the runtimes that are installed: PyTorch, ONNX
Runtime, OpenVINO in float32 and bfloat16, beside the reference network. `outside_percent` is the share of the time that
is not the network's (of PyTorch the normalising counts as outside), `equal_percent` the share of pixels labelled as
plain PyTorch labels them.
"""

from typing import Any

from featherseg.bench.entrants import Request
from featherseg.bench.speed import bench
from measuring import finish, parser

SHOWN = (
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "count",
    "times_as_fast",
    "times_as_fast_as_channels_last",
    "outside_percent",
    "equal_percent",
    "reference_ratio",
)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--weights", default="fassd_net_l2.camvid", help="shipped weights or a file")
    arguments.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))
    arguments.add_argument("--rounds", type=int, default=50, help="interleaved rounds (default 50)")
    arguments.add_argument("--threads", type=int, default=2, help="of every contestant (default 2)")
    options = arguments.parse_args()
    size = (options.size[0], options.size[1])
    request = Request(
        (options.weights,),
        size=size,
        threads=options.threads,
        against_torch=True,
        rounds=options.rounds,
        seconds=float("inf"),
        memory=False,
    )
    report = bench(request, told=print)
    figures: dict[str, Any] = {
        name.partition(", ")[2]: {key: one[key] for key in SHOWN} for name, one in report["contestants"].items()
    }
    reference = report["reference"]
    figures[reference["name"]] = {key: reference[key] for key in SHOWN[:4]}
    finish(
        "runtimes",
        f"{options.weights} at {size[0]}x{size[1]}, uint8 image to uint8 label map, batch norm folded in files",
        figures,
        options.card,
        report["load_average"]["before"],
        seeds=[0],
        threads=options.threads,
        environment=report["environment"],
        notes="; ".join(report["warnings"]) or None,
    )


if __name__ == "__main__":
    main()
