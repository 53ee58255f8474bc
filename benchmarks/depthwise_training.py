"""How many images a second networks with depthwise convolutions train, against the same with PyTorch's layers alone.

Both are `featherseg.training.loop.train` itself (see steps.py): bfloat16 autocast, channels_last, SGD. For the second,
depthwise convolutions, batch norm and ReLU are PyTorch's in both directions. Measured in one process with pinned
threads, in interleaved rounds; each round builds the network anew and takes a few steps that are not counted. Data are
procedural scenes that lie in memory.
"""

from functools import partial
from unittest import mock

import numpy as np
import torch

from featherseg.models import depthwise, norm
from measuring import finish, interleaved, load_average, parser, summary
from steps import images_per_second, scenes

NETWORKS = ("mobilenet_v2_dpc", "shufflenet_v2_dpc", "drbanet")


def compiled(model: str, images: np.ndarray, labels: np.ndarray, steps: int, warm_up: int) -> float:
    """Images a second of the loop as it is."""
    return images_per_second("featherseg", model, images, labels, steps, warm_up)


def plain(model: str, images: np.ndarray, labels: np.ndarray, steps: int, warm_up: int) -> float:
    """Images a second of the loop where no layer may run a compiled kernel."""
    never = mock.Mock(return_value=False)
    with mock.patch.object(depthwise, "compiled_for", never), mock.patch.object(norm, "compiled_for", never):
        return images_per_second("featherseg", model, images, labels, steps, warm_up)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--models", nargs="+", default=NETWORKS, help=f"networks (default {' '.join(NETWORKS)})")
    arguments.add_argument("--size", type=int, nargs=2, default=(288, 384), metavar=("H", "W"), help="of the images")
    arguments.add_argument("--batch", type=int, default=8, help="images of a step (default 8)")
    arguments.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    arguments.add_argument("--steps", type=int, default=4, help="counted steps of a round (default 4)")
    arguments.add_argument("--warm-up", type=int, default=2, help="steps of a round that are not counted (default 2)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    load = load_average()
    images, labels = scenes(tuple(options.size), options.batch)
    figures: dict[str, object] = {}
    for model in options.models:
        contestants = {
            way.__name__: partial(way, model, images, labels, options.steps, options.warm_up)
            for way in (compiled, plain)
        }
        print(model)
        rates = {way: summary(values) for way, values in interleaved(contestants, options.rounds, print).items()}
        figures |= {f"{model}, {way}, images/s": values for way, values in rates.items()}
        figures[f"{model}, compiled / plain"] = round(rates["compiled"]["median"] / rates["plain"]["median"], 2)
    height, width = options.size
    finish(
        "training speed of depthwise networks",
        f"{height}x{width}/batch {options.batch}, bf16, median of interleaved rounds",
        figures,
        options.card,
        load,
        seeds=[0],
        rounds=options.rounds,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
