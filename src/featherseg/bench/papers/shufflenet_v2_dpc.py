"""Tables 1, 2 and 5 of Türkmen and Heikkilä 2019 beside our networks, with 19 classes at output stride 16.

GFLOPs are TensorFlow's count of the deployed graph, see :mod:`featherseg.bench.folding`; "640x360" is a height of 360.
The size in MB is that of a TensorFlow Lite file, ours that of the numbers in it. Milliseconds per frame are a OnePlus
6's, mIoU is on Cityscapes val.
"""

from typing import Any

import torch

from featherseg.bench.complexity import stage_sizes
from featherseg.bench.folding import count_folded
from featherseg.models.registry import create_model

CROP_SIZE, TABLE_2_SIZE, TABLE_5_SIZE = (769, 769), (360, 640), (224, 224)

# (row, network, Table 2 (GFLOPs, mIoU or None), Table 5 (GFLOPs, ms, variance of ms, frames per second, MB))
_NETWORKS = (
    ("MobileNet V2 + Basic", "mobilenet_v2_basic", (4.69, 70.7), (1.00, 101.46, 25.04, 9.86, 8.4)),
    ("MobileNet V2 + DPC", "mobilenet_v2_dpc", (5.56, None), (1.18, 116.16, 44.01, 8.61, 9.9)),
    ("ShuffleNet V2 + Basic", "shufflenet_v2_basic", (2.18, 67.7), (0.47, 50.89, 0.57, 19.65, 4.6)),
    ("ShuffleNet V2 + DPC", "shufflenet_v2_dpc", (3.05, 71.3), (0.65, 64.89, 3.53, 15.41, 6.0)),
)

# Table 1: (row, our module whose output it is, (H, W, C)). The 512 channels of its DPC row are a slip: the cell joins
# five branches of 256, and only that gives the paper's GFLOPs and sizes.
_STAGES = (
    ("Conv2D", "base.conv1", (385, 385, 24)),
    ("MaxPool", "base.pool", (193, 193, 24)),
    ("Stage2", "base.stage2", (97, 97, 116)),
    ("Stage3", "base.stage3", (49, 49, 232)),
    ("Stage4", "base.stage4", (49, 49, 464)),
    ("DPC", "head.dropout", (49, 49, 512)),
    ("Conv2D 1x1, 256", "head.concat_projection", (49, 49, 256)),
    ("Conv2D 1x1, n_classes", "logits", (49, 49, 19)),
    ("Bilinear Up", "enlarged", (769, 769, 19)),
)


def _ours(model: str, size: tuple[int, int]) -> dict[str, Any]:
    folded = count_folded(model, size)
    return {
        "gflops": folded.flops / 1e9,
        "parameters": folded.unfolded.parameters,
        "parameters_deployed": folded.unfolded.parameters_deployed,
        "conv_macs": folded.unfolded.conv_macs,
        "megabytes": folded.weight_bytes / 1e6,
    }


def rows() -> list[dict[str, Any]]:
    """Each row of the tables: ``{"row", "model", "table", "size", "paper", "ours"}``."""
    found = []
    for row, model, (gflops, miou), _ in _NETWORKS:
        paper: dict[str, Any] = {"gflops": gflops} | ({} if miou is None else {"miou": miou})
        named = {"row": row, "model": model, "table": "2", "size": list(TABLE_2_SIZE)}
        found.append({**named, "paper": paper, "ours": _ours(model, TABLE_2_SIZE)})
    for row, model, _, (gflops, milliseconds, variance, fps, megabytes) in _NETWORKS:
        paper = {
            "gflops": gflops,
            "megabytes": megabytes,
            "milliseconds": milliseconds,
            "milliseconds_variance": variance,
            "fps": fps,
        }
        named = {"row": row, "model": model, "table": "5", "size": list(TABLE_5_SIZE)}
        found.append({**named, "paper": paper, "ours": _ours(model, TABLE_5_SIZE)})
    with torch.device("meta"):
        network = create_model("shufflenet_v2_dpc")
    sizes = stage_sizes(network, [module for _, module, _ in _STAGES if module != "enlarged"], CROP_SIZE)
    for row, module, printed in _STAGES:
        found.append(
            {
                "row": row,
                "model": "shufflenet_v2_dpc",
                "table": "1",
                "size": list(CROP_SIZE),
                "paper": {"output_size": list(printed)},
                "ours": {"output_size": sizes[module]},
            }
        )
    return found
