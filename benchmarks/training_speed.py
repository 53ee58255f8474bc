"""How many images a second training takes, written in four ways (see steps.py), and the ratios between them.

Measured in one process with pinned threads, in interleaved rounds; each round builds the network anew, takes a few
steps that are not counted, and gives the batch size divided by the median step. Data are procedural scenes that lie in
memory: neither decoding nor augmentation is in the figures.
"""

from functools import partial

import torch

from measuring import finish, interleaved, load_average, parser, summary
from steps import LOOPS, images_per_second, scenes


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="fassd_net_l2", help="network (default fassd_net_l2)")
    arguments.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"), help="of the images")
    arguments.add_argument("--batch", type=int, default=8, help="images of a step (default 8)")
    arguments.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    arguments.add_argument("--steps", type=int, default=4, help="counted steps of a round (default 4)")
    arguments.add_argument("--warm-up", type=int, default=2, help="steps of a round that are not counted (default 2)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    load = load_average()
    images, labels = scenes(tuple(options.size), options.batch)
    contestants = {
        loop: partial(images_per_second, loop, options.model, images, labels, options.steps, options.warm_up)
        for loop in LOOPS
    }
    rates = interleaved(contestants, options.rounds, print)
    median = {loop: summary(values)["median"] for loop, values in rates.items()}
    figures: dict[str, object] = {f"{loop}, images/s": summary(values) for loop, values in rates.items()}
    for other in LOOPS[:-1]:
        figures[f"featherseg / {other}"] = round(median["featherseg"] / median[other], 2)
    height, width = options.size
    finish(
        "training speed",
        f"{options.model}/{height}x{width}/batch {options.batch}, median of interleaved rounds",
        figures,
        options.card,
        load,
        seeds=[0],
        rounds=options.rounds,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
