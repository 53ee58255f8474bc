"""Is the sum over a table of latencies the latency of the network?

Measures every operator of a search space once, as `featherseg search` does, then whole networks of that space,
decoded from random architecture parameters, by the same runtime. Reported: the time the table took, the correlation
of predicted and measured milliseconds over the networks, and the relative error of the prediction, its median and its
greatest.
"""

import statistics
import time

import numpy as np
import torch

from featherseg.models.fasterseg import FasterSeg
from featherseg.randomness import generator
from featherseg.search.decoding import decode_pairs
from featherseg.search.latency import architecture_latency
from featherseg.search.measured import LatencyTable, fingerprint, needed_shapes, network_milliseconds
from featherseg.search.runtimes import open_runtime
from featherseg.search.space import STUDENT, Choices, SearchSpace
from measuring import finish, load_average, parser


def random_choices(space: SearchSpace, seed: int) -> Choices:
    """Architecture parameters drawn from a normal distribution; skips are likelier, so that lengths differ."""
    rng = generator(seed, "random architecture")

    def drawn(rows: int, columns: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=(rows, columns)))

    alpha = tuple(drawn(space.layers - scale, 5) for scale in range(3))
    for one in alpha:
        one[:, 0] += rng.uniform(-1, 2)
    beta = tuple(drawn(space.layers - scale - 1, 2) for scale in (1, 2))
    return Choices(alpha, beta, tuple(drawn(rows, len(space.widths)) for rows in space.ratio_rows()))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"), help="of the images")
    arguments.add_argument("--networks", type=int, default=24, help="whole networks (default 24)")
    arguments.add_argument("--layers", type=int, default=16, help="of the space (default 16)")
    arguments.add_argument("--base", type=int, default=12, help="of the space (default 12)")
    arguments.add_argument("--widths", type=int, nargs="+", default=(4, 6, 8, 10, 12), help="of the space, in twelfths")
    arguments.add_argument("--classes", type=int, default=11, help="of the networks (default 11)")
    arguments.add_argument("--runtime", default="pytorch", help="what runs them (default pytorch)")
    arguments.add_argument("--device", default="cpu", help="where (default cpu)")
    arguments.add_argument("--precision", default="fp32", help="fp32, bf16 or fp16 (default fp32)")
    arguments.add_argument("--threads", type=int, default=2, help="of the runtime (default 2)")
    arguments.add_argument("--seconds", type=float, default=0.3, help="for each entry, about (default 0.3)")
    options = arguments.parse_args()
    if options.networks < 3:
        arguments.error("--networks must be at least 3")
    load = load_average()
    torch.set_num_threads(options.threads)
    runtime = open_runtime(options.runtime, device=options.device, precision=options.precision, threads=options.threads)
    space = SearchSpace(options.layers, options.base, tuple(options.widths))
    size = (options.size[0], options.size[1])
    table = LatencyTable({}, fingerprint(runtime), runtime, seconds=options.seconds)
    began = time.monotonic()
    table.measure(needed_shapes(space, STUDENT, size, options.classes))
    table_seconds = time.monotonic() - began
    print(f"table: {table.measured} entries in {table_seconds:.0f} s", flush=True)
    predicted, measured = [], []
    for number in range(options.networks):
        pairs = decode_pairs(space, STUDENT, random_choices(space, number))
        architecture = pairs[(2, number % 2)]
        predicted.append(architecture_latency(architecture, table.price, size, options.classes))
        network = FasterSeg(architecture, options.classes)
        measured.append(network_milliseconds(network, size, runtime, seconds=2 * options.seconds))
        print(f"network {number + 1}: predicted {predicted[-1]:.2f} ms, measured {measured[-1]:.2f} ms", flush=True)
    errors = [100 * abs(one - other) / other for one, other in zip(predicted, measured, strict=True)]
    figures = {
        "entries": table.measured,
        "seconds for the table": round(table_seconds, 1),
        "networks": options.networks,
        "measured, ms": {"least": round(min(measured), 2), "greatest": round(max(measured), 2)},
        "correlation": round(float(np.corrcoef(predicted, measured)[0, 1]), 4),
        "error, percent": {
            "median": round(statistics.median(errors), 2),
            "greatest": round(max(errors), 2),
            "mean with its sign": round(
                statistics.mean(100 * (one / other - 1) for one, other in zip(predicted, measured, strict=True)), 2
            ),
        },
    }
    finish(
        "latency table",
        f"{options.runtime}/{options.device}/{options.precision}/{size[0]}x{size[1]}/{options.threads} threads, "
        f"{options.layers} layers, base {options.base}, widths {','.join(map(str, options.widths))}",
        figures,
        options.card,
        load,
        seeds=list(range(options.networks)),
        pairs=[{"predicted": round(a, 3), "measured": round(b, 3)} for a, b in zip(predicted, measured, strict=True)],
        measured_on=table.measured_on,
    )


if __name__ == "__main__":
    main()
