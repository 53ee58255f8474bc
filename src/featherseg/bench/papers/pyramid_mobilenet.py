"""Tables 1 to 5 and 7 of Nguyen 2020 (pyramid MobileNet) beside our networks.

Design choices:
- the paper prints no parameters and no cost of a network, so that its side of those rows is empty; Tables 4 and 5, its
  accuracy after the last steps printed, stand in the rows of the networks they are of;
- costs are multiply-accumulates at 224x224, convolutions and the linear layer, for ImageNet's 1000 classes and for the
  102 and 257 of Caltech-101 and Caltech-256; of the readings of the paper for 1000;
- Table 1 is a formula a row: its value at 3x3, 192 channels in and 64 out in 4 groups, beside the same counted;
- Table 7's proposed detector is counted at 384x1248, KITTI's images padded to a multiple of 32; SSD takes 300x300.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from featherseg.bench.complexity import count
from featherseg.models.pyramid_depthwise import PyramidDepthwiseConv2d
from featherseg.models.pyramid_mobilenet import DEFAULT_RATES, receptive_field
from featherseg.models.registry import create_model

SIZE = (224, 224)
CLASSES = {1000: "ImageNet", 102: "Caltech-101", 257: "Caltech-256"}

# (row, network, Table 4 at 25,000 to 45,000 steps, Table 5 at 30,000 to 50,000): top-1 accuracy in percent.
_CLASSIFIERS = (
    ("MobileNetv1", "mobilenet_v1", (76.6, 75.7, 76.8, 76.8, 76.4), (64.6, 64.6, 64.5, 64.7, 64.6)),
    ("MobileNetv2", "mobilenet_v2", (79.3, 79.5, 79.8, 79.8, 79.8), (71.2, 71.2, 72.1, 72.3, 72.3)),
    ("Shufflenet", "shufflenet_v1", (77.3, 78.4, 78.1, 79.2, 78.7), (69.4, 70.2, 70.5, 70.4, 70.4)),
    ("Proposed model", "pyramid_mobilenet", (79.4, 79.5, 79.9, 80.1, 80.1), (72.1, 72.3, 72.3, 72.4, 72.4)),
)
_READINGS: tuple[dict[str, Any], ...] = (
    {"activation": "relu6"},
    {"rates": "capped"},
    {"rates": [1, 2, 4, 8]},
    {"rates": [1, 2], "reading": "full"},
    {"rates": [1, 2, 3], "reading": "full"},
    {"reading": "full"},
    {"reading": "reduce"},
    {"widths": "early"},
    {"widths": "late"},
)
# Tables 2 and 3: (layers, our modules whose output they are, Table 2's outputs (H, W, C), Table 3's).
_LAYERS = (
    ("0", "base.stem", (112, 112, 32), (112, 112, 32)),
    ("1", "base.blocks.0", (112, 112, 16), (112, 112, 16)),
    ("2", "base.blocks.1", (56, 56, 24), (56, 56, 24)),
    ("3", "base.blocks.2", (56, 56, 24), (56, 56, 24)),
    ("4", "base.blocks.3", (28, 28, 32), (28, 28, 32)),
    ("5-6", "base.blocks.5", (28, 28, 32), (28, 28, 32)),
    ("7", "base.blocks.6", (14, 14, 64), (14, 14, 64)),
    ("8-13", "base.blocks.12", (14, 14, 96), (14, 14, 96)),
    ("14", "base.blocks.13", (7, 7, 160), (7, 7, 160)),
    ("15-17", "base.blocks.16", (7, 7, 320), (7, 7, 320)),
    ("18", "head", (7, 7, 1280), (7, 7, 1280)),
)
# Table 7: (row, network, input, mAP over easy, moderate and hard on KITTI in percent, seconds a frame on a Jetson TX2).
_DETECTORS = (
    ("SSD, VGG-16", "ssd300_vgg16", (300, 300), 68.4, 0.4),
    ("Proposed detector", "pyramid_rpn", (384, 1248), 65.8, 0.1),
)
_N, _IN, _OUT, _GROUPS = 3, 192, 64, 4


def _costs(model: str, size: tuple[int, int], classes: int, **arguments: Any) -> dict[str, Any]:
    counted = count(model, size, classes, **arguments)
    return {
        "mmacs": (counted.conv_macs + counted.matrix_macs) / 1e6,
        "parameters": counted.parameters,
        "parameters_deployed": counted.parameters_deployed,
        "conv_macs": counted.conv_macs,
        "matrix_macs": counted.matrix_macs,
    }


def _classifiers() -> list[dict[str, Any]]:
    found = []
    for row, model, caltech101, caltech256 in _CLASSIFIERS:
        for classes, data in CLASSES.items():
            accuracy = {102: caltech101, 257: caltech256}.get(classes)
            found.append(
                {
                    "row": f"{row}, {data}",
                    "model": model,
                    "table": {102: "4", 257: "5"}.get(classes, "–"),
                    "size": list(SIZE),
                    "classes": classes,
                    "paper": {} if accuracy is None else {"top1": accuracy[-1], "top1_by_steps": list(accuracy)},
                    "ours": _costs(model, SIZE, classes),
                }
            )
    for arguments in _READINGS:
        named = ", ".join(f"{name}={value}" for name, value in arguments.items())
        about = {"row": f"Proposed model, {named}", "model": "pyramid_mobilenet", "table": "–", "size": list(SIZE)}
        ours = _costs("pyramid_mobilenet", SIZE, 1000, **arguments)
        found.append({**about, "classes": 1000, "arguments": arguments, "paper": {}, "ours": ours})
    return found


def _detectors() -> list[dict[str, Any]]:
    return [
        {
            "row": row,
            "model": model,
            "table": "7",
            "size": list(size),
            "classes": 1,
            "paper": {"map": average_precision, "seconds": seconds},
            "ours": _costs(model, size, 1),
        }
        for row, model, size, average_precision, seconds in _DETECTORS
    ]


def _convolutions() -> list[dict[str, Any]]:
    """Table 1."""
    shape = {"kernel_size": _N, "bias": False}
    pointwise = nn.Conv2d(_IN, _OUT, 1, bias=False)
    largest = receptive_field(_N, max(DEFAULT_RATES))
    layers: dict[str, tuple[str, int, int, tuple[nn.Module, ...]]] = {
        "Standard convolution": ("n^2 C C'", _N**2 * _IN * _OUT, _N, (nn.Conv2d(_IN, _OUT, **shape),)),
        "Group convolution": (
            "n^2 C C' / g",
            _N**2 * _IN * _OUT // _GROUPS,
            _N,
            (nn.Conv2d(_IN, _OUT, groups=_GROUPS, **shape),),
        ),
        "Depth-wise separable convolution": (
            "n^2 C + C C'",
            _N**2 * _IN + _IN * _OUT,
            _N,
            (nn.Conv2d(_IN, _IN, groups=_IN, **shape), pointwise),
        ),
        "Depth-wise dilated separable convolution": (
            "n^2 C + C C'",
            _N**2 * _IN + _IN * _OUT,
            largest,
            (PyramidDepthwiseConv2d(_IN, _IN, 1, DEFAULT_RATES), pointwise),
        ),
    }
    return [
        {
            "row": f"{row}, {formula}",
            "model": None,
            "table": "1",
            "size": None,
            "paper": {"formula": formula, "parameters": parameters, "receptive_field": field},
            "ours": {"parameters": sum(prod(p.shape) for layer in found for p in layer.parameters())},
        }
        for row, (formula, parameters, field, found) in layers.items()
    ]


def _stages() -> list[dict[str, Any]]:
    """Tables 2 and 3."""
    found = []
    for table, model, place in (("2", "mobilenet_v2", 2), ("3", "pyramid_mobilenet", 3)):
        sizes: dict[str, list[int]] = {}
        with torch.device("meta"):
            network = create_model(model, 1000).eval()
        for _, module, *_ in _LAYERS:

            def note(_: Any, __: Any, output: Tensor, module: str = module, sizes: dict = sizes) -> None:
                sizes[module] = [*output.shape[2:], output.shape[1]]

            network.get_submodule(module).register_forward_hook(note)
        with torch.no_grad():
            network(torch.empty(1, 3, *SIZE, device="meta"))
        for layer in _LAYERS:
            printed = {"output_size": list(layer[place])}
            about = {"row": f"Layer {layer[0]}", "model": model, "table": table, "size": list(SIZE)}
            found.append({**about, "paper": printed, "ours": {"output_size": sizes[layer[1]]}})
    return found


def rows() -> list[dict[str, Any]]:
    """Each row of the tables: ``{"row", "model", "table", "paper", "ours"}``; costs have ``"classes"`` too."""
    return _convolutions() + _classifiers() + _detectors() + _stages()
