"""Tables I, II and IV of Rosas-Arias et al. 2020 beside our networks, at 1024x2048 with 19 classes.

A network that two tables show is one row, which tells the tables apart where they disagree.
"""

from typing import Any

import torch

from featherseg.bench.complexity import count, stage_sizes
from featherseg.models.registry import create_model

CITYSCAPES_SIZE = (1024, 2048)

# Rosas-Arias et al. 2020. GFLOPs and parameters are the same in Tables I and IV; frames per second (GTX 1080 Ti) and
# mIoU (Cityscapes val) are not: Table I is before, Table IV after the fine-tuning of the final models.
# (row, network, GFLOPs, parameters, Table I (FPS, mIoU), Table IV (FPS, mIoU))
_FASSD_NETWORKS = (
    ("FC-HarDNet-70", "fc_hardnet_70", 35.4, 4_100_000, (52.3, 76.4), (53.0, 77.4)),
    ("Baseline", "fassd_net_baseline", 32.9, 1_900_000, (56.3, 75.2), None),
    ("+ASPP", "fassd_net_aspp", 36.8, 3_850_000, (50.2, 75.8), None),
    ("+DAPF", "fassd_net_dapf", 33.9, 2_360_000, (53.9, 77.7), None),
    ("+MDA", "fassd_net_mda", 44.2, 2_380_000, (42.2, 77.4), None),
    ("ASPP+MDA", "fassd_net_aspp_mda", 48.0, 4_330_000, (39.1, 76.8), None),
    ("DAPF+MDA = FASSD-Net", "fassd_net", 45.1, 2_850_000, (41.1, 78.2), (41.1, 78.8)),
    ("FASSD-Net-L1", "fassd_net_l1", 20.0, 2_850_000, None, (78.0, 76.3)),
    ("FASSD-Net-L2", "fassd_net_l2", 8.7, 2_300_000, None, (133.1, 74.1)),
    ("FC-HarDNet-70 L1", "fc_hardnet_70_l1", 15.7, 4_100_000, None, (93.4, 74.8)),
    ("FC-HarDNet-70 L2", "fc_hardnet_70_l2", 6.6, 2_860_000, None, (152.8, 72.1)),
)

# Table II: (row, our module whose output it is, (H, W, C)). The paper's encoder rows are the widths after the 1x1
# transition, which is the entry after the HarDBlock in ``base``.
_FASSD_STAGES = (
    ("Stem Conv 3x3 (s=2)", "base.0", (512, 1024, 16)),
    ("Stem Conv 3x3", "base.1", (512, 1024, 24)),
    ("Stem Conv 3x3 (s=2), second", "base.2", (256, 512, 32)),
    ("Stem Conv 3x3, second", "base.3", (256, 512, 48)),
    ("Encoder B1", "base.5", (256, 512, 64)),
    ("Encoder B2", "base.8", (128, 256, 96)),
    ("Encoder B3", "base.11", (64, 128, 160)),
    ("Encoder B4", "base.14", (32, 64, 224)),
    ("DAPF", "DAPF", (32, 64, 224)),
    ("MDA 1", "mda.0", (64, 128, 192)),
    ("Decoder B1", "denseBlocksUp.0", (64, 128, 160)),
    ("MDA 2", "mda.1", (128, 256, 119)),
    ("Decoder B2", "denseBlocksUp.1", (128, 256, 78)),
    ("MDA 3", "mda.2", (256, 512, 63)),
    ("Decoder B3", "denseBlocksUp.2", (256, 512, 48)),
    ("Output Conv 1x1", "finalConv", (256, 512, 19)),
)
_FASSD_UPSAMPLING = ("Upsampling x4", (1024, 2048, 19))


SPEEDS_TAKEN_ON = "Table IV: GTX 1080 Ti, PyTorch, float32, batch 1, the network alone with its enlarging"


def speeds() -> list[dict[str, Any]]:
    """Table IV's frames a second and mIoU of the networks that are here: ``{"row", "model", "fps", "miou"}``."""
    return [
        {"row": row, "model": model, "fps": final[0], "miou": final[1]}
        for row, model, _, _, _, final in _FASSD_NETWORKS
        if final is not None
    ]


def rows() -> list[dict[str, Any]]:
    """Each row of the tables: ``{"row", "model", "table", "paper", "ours"}``."""
    found = []
    for row, model, gflops, parameters, first, final in _FASSD_NETWORKS:
        measured = {"I": first, "IV": final}
        counted = count(model, CITYSCAPES_SIZE)
        found.append(
            {
                "row": row,
                "model": model,
                "table": ", ".join(table for table, figures in measured.items() if figures),
                "paper": {
                    "gflops": gflops,
                    "parameters": parameters,
                    "fps": {table: figures[0] for table, figures in measured.items() if figures},
                    "miou": {table: figures[1] for table, figures in measured.items() if figures},
                },
                "ours": {
                    "gflops": counted.count / 1e9,
                    "parameters": counted.parameters,
                    "parameters_deployed": counted.parameters_deployed,
                    "conv_macs": counted.conv_macs,
                    "count": counted.count,
                },
            }
        )
    with torch.device("meta"):
        network = create_model("fassd_net")
    sizes = stage_sizes(network, [module for _, module, _ in _FASSD_STAGES], CITYSCAPES_SIZE)
    for row, module, printed in (*_FASSD_STAGES, (_FASSD_UPSAMPLING[0], "enlarged", _FASSD_UPSAMPLING[1])):
        found.append(
            {
                "row": row,
                "model": "fassd_net",
                "table": "II",
                "paper": {"output_size": list(printed)},
                "ours": {"output_size": sizes[module]},
            }
        )
    return found
