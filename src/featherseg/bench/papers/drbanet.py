"""Tables 1 and 2 of Wang et al. (DRBANet) beside our network and its other readings.

Design choices:
- ``gflops`` counts multiply-accumulates at 1024x2048, one per output for a bias and one per element of batch norm: of
  the ways papers count, the one that comes nearest to the printed 11.9. All of them stand in ``gflops_by_counting``;
  1024x2048 in multiply-accumulates and 1024x1024 in two operations each are the same number;
- the printed parameters hold the heads of training, as those of a fresh network do;
- Table 2's rows of other networks repeat those networks' own papers and are left out.
"""

from typing import Any

import torch

from featherseg.bench.complexity import Complexity, count, stage_sizes
from featherseg.models.registry import create_model

CITYSCAPES_SIZE = (1024, 2048)
TABLE_1_SIZE = (1024, 1024)

# Table 2; mIoU of the two rows "Ours" and "Ours*".
_PRINTED = {
    "gflops": 11.9,
    "parameters": 2_300_000,
    "miou": {
        "Cityscapes val": 76.6,
        "Cityscapes test": 74.3,
        "CamVid test": 72.6,
        "Cityscapes test, trained on train and val": 75.1,
        "CamVid test, trained on train and val": 73.9,
    },
}
_READINGS: tuple[dict[str, str], ...] = (
    {},
    {"expand": "twice_in"},
    {"expand": "twice_out"},
    {"expand": "in"},
    {"shortcut": "pointwise"},
    {"shortcut": "none"},
    {"bfm": "sequential"},
    {"elppm": "pre"},
)

# Table 1: (row, our module whose output it is, (H, W, C)). Where the channels are None, the height and width are those
# of Sec. 2.1 (1/4, 1/8; 1/16, 1/32 in the low-resolution branch).
_STAGES = (
    ("Layer 1", "base.stem", (512, 512, 32)),
    ("Layers 2-3", "base.layers_2_3", (256, 256, None)),
    ("Layers 4-5", "base.layers_4_5", (128, 128, None)),
    ("Layers 6-8, low resolution", "base.low_6_7", (64, 64, None)),
    ("Layers 6-8, high resolution", "base.high_6_7", (128, 128, None)),
    ("Layers 9-11, low resolution", "base.low_9_10", (32, 32, None)),
    ("Layers 9-11, high resolution", "base.high_9_10", (128, 128, None)),
    ("Layer 12, low resolution", "base.low_12", (16, 16, 512)),
    ("Layer 12, high resolution", "base.high_12", (128, 128, 128)),
    ("Layer 13, enlarged 8x", "elppm", (128, 128, 128)),
)


def countings(counted: Complexity) -> dict[str, float]:
    """One image's cost in 10^9 by the ways of counting that a paper's "GFLOPs" may mean."""
    elements = counted.elements
    norms = elements["batch norm"]  # two per element
    return {
        "multiply-accumulates": counted.conv_macs / 1e9,
        "with biases, activations and pooling": (counted.count - norms) / 1e9,
        "with biases and batch norm once": (counted.conv_macs + elements["bias"] + norms // 2) / 1e9,
        "with everything, batch norm twice": counted.count / 1e9,
    }


def rows() -> list[dict[str, Any]]:
    """Each row of the tables: ``{"row", "model", "table", "paper", "ours"}``; costs have ``"arguments"`` too."""
    found: list[dict[str, Any]] = []
    for arguments in _READINGS:
        named = ", ".join(f"{name}={value}" for name, value in arguments.items())
        counted = count("drbanet", CITYSCAPES_SIZE, num_classes=19, **arguments)
        by_counting = countings(counted)
        found.append(
            {
                "row": f"DRBANet, {named}" if named else "DRBANet",
                "model": "drbanet",
                "arguments": arguments,
                "table": "2",
                "paper": _PRINTED,
                "ours": {
                    "gflops": by_counting["with biases and batch norm once"],
                    "gflops_by_counting": by_counting,
                    "parameters": counted.parameters,
                    "parameters_deployed": counted.parameters_deployed,
                    "conv_macs": counted.conv_macs,
                    "count": counted.count,
                },
            }
        )
    with torch.device("meta"):
        network = create_model("drbanet")
    sizes = stage_sizes(network, [module for _, module, _ in _STAGES], TABLE_1_SIZE)
    height, width, channels = sizes["elppm"]
    sizes["elppm"] = [8 * height, 8 * width, channels]  # a function enlarges it, which no module's output shows
    for row, module, printed in _STAGES:
        found.append(
            {
                "row": row,
                "model": "drbanet",
                "table": "1",
                "paper": {"output_size": list(printed)},
                "ours": {"output_size": sizes[module]},
            }
        )
    return found
