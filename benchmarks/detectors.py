"""Time per frame of the pyramid paper's detector, on one map and on three, and of SSD300 on VGG-16.

A frame is a decoded KITTI-sized picture (375x1242) in, boxes out: normalising, padding to 384x1248 or resizing to
300x300, the network, decoding and suppression. Fresh weights: time does not depend on them but for suppression, whose
candidates are limited. One process, pinned threads, interleaved rounds; medians and their ratios. The paper measured
0.1 s for its detector and 0.4 s for SSD on a Jetson TX2.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from featherseg.bench.complexity import count
from featherseg.deploy.detector import detector
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network
from featherseg.randomness import generator
from measuring import finish, interleaved, load_average, parser, summary

FRAME = (375, 1242)
NAMES = ("pyramid_rpn", "pyramid_rpn_multi", "ssd300_vgg16")


def timer(name: str, image: np.ndarray) -> Callable[[], float]:
    """A function that gives the milliseconds of one frame."""
    torch.manual_seed(0)
    network = create_model(name, 1)
    ready = detector(network, describe_network(network, name, 1) | {"classes": ["Car"]}, name=name)

    def once() -> float:
        began = time.perf_counter()
        ready.predict(image)
        return 1000 * (time.perf_counter() - began)

    once()
    return once


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=15, help="rounds (default 15)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    load = load_average()
    image = generator(0, "frame").integers(0, 256, (*FRAME, 3)).astype(np.uint8)
    contestants = {name: timer(name, image) for name in NAMES}
    taken = {name: summary(values) for name, values in interleaved(contestants, options.rounds, print).items()}
    figures: dict[str, object] = {f"{name}, ms": values for name, values in taken.items()}
    for name in NAMES:
        with torch.device("meta"):
            size = create_model(name, 1).detector_spec.input_size(*FRAME)  # type: ignore[operator,union-attr]
        cost = count(name, size, 1)
        figures[f"{name}, GMACs at {size[0]}x{size[1]}"] = round(cost.conv_macs / 1e9, 3)
        figures[f"{name}, parameters"] = cost.parameters
    for name in NAMES[:2]:
        figures[f"ssd300_vgg16 / {name}"] = round(taken["ssd300_vgg16"]["median"] / taken[name]["median"], 2)
    finish(
        "detectors",
        f"frames of {FRAME[0]}x{FRAME[1]}, picture to boxes, median of rounds",
        figures,
        options.card,
        load,
        seeds=[0],
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
