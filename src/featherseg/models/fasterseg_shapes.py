"""Which operators an architecture of the FasterSeg family runs, on which shapes: what a latency table is asked for.

Design choices:
- operators are listed in the order in which the published code adds them up (stem, cells layer by layer, decoders,
  FFM, head), so that a sum over the published table is the published one to the last digit;
- a shape is that of the operator's input, with even sizes halved; maps of other sizes differ by a pixel at most;
- ``official`` pricing looks conv_2x_downup up as conv_2x, as the published search did by mistake; the published table
  has the right entries too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_architecture import Architecture

Kind = Literal["skip", "conv", "conv_downup", "conv_2x", "conv_2x_downup", "conv_norm", "fusion", "head"]
_PUBLISHED_CLASSES = {
    "skip": "FactorizedReduce",
    "conv": "BasicResidual1x",
    "conv_downup": "BasicResidual_downup_1x",
    "conv_2x": "BasicResidual2x",
    "conv_2x_downup": "BasicResidual_downup_2x",
}


@dataclass(frozen=True)
class OperatorShape:
    """An operator on an input ``[in_channels, height, width]``; ``kernel`` is a conv_norm's."""

    kind: Kind
    height: int
    width: int
    in_channels: int
    out_channels: int
    stride: int = 1
    kernel: int = 3

    def published_key(self, *, official: bool = True) -> str:
        """What the published table of latencies calls it."""
        size = f"H{self.height}_W{self.width}"
        channels = f"Cin{self.in_channels}_Cout{self.out_channels}"
        if self.kind == "fusion":
            return f"ff_{size}_C{self.in_channels}"
        if self.kind == "head":
            return f"head_{size}_{channels}"
        if self.kind == "conv_norm":
            return f"ConvNorm_{size}_{channels}_kernel{self.kernel}_stride{self.stride}"
        priced = "conv_2x" if official and self.kind == "conv_2x_downup" else self.kind
        key = f"{_PUBLISHED_CLASSES[priced]}_{size}_{channels}_stride{self.stride}"
        return key if priced == "skip" else f"{key}_dilation1"


def operator_shapes(
    architecture: Architecture, size: tuple[int, int] = (1024, 2048), num_classes: int = 19
) -> list[OperatorShape]:
    """Every operator that the deployed network runs once for an image of ``size`` (H, W); shared cells once.

    A skip of stride 1 is the identity and not listed; the enlarging of maps belongs to no operator.
    """

    def at(scale: int) -> tuple[int, int]:
        return size[0] // scale, size[1] // scale

    first, second, entry = architecture.stem
    shapes = [
        OperatorShape("conv_norm", *at(1), 3, first, 2),
        OperatorShape("conv_2x", *at(2), first, second, 2),
        OperatorShape("conv_2x", *at(4), second, entry, 2),
    ]
    scales = [8] * len(architecture.branches)
    for number in range(max(len(branch.layers) for branch in architecture.branches)):
        for index, branch in enumerate(architecture.branches):
            if number >= len(branch.layers):
                continue
            layer = branch.layers[number]
            runs = index == 0 or number >= architecture.shared_layers
            if runs and not (layer.operator == "skip" and layer.stride == 1):
                kind: Kind = layer.operator  # type: ignore[assignment]
                place = at(scales[index])
                shapes.append(OperatorShape(kind, *place, layer.in_channels, layer.out_channels, layer.stride))
            scales[index] *= layer.stride
    joined = 0
    for branch in architecture.branches:
        last = branch.last_channels(entry)
        scale, width = branch.scale, last[branch.scale]
        while scale > 8:
            arm = architecture.head_width * scale // 16
            shapes.append(OperatorShape("conv_norm", *at(scale), width, arm, kernel=1))
            scale //= 2
            shapes.append(OperatorShape("conv_norm", *at(scale), arm + last[scale], arm))
            width = arm
        joined += width
    fused = architecture.head_width * len(architecture.branches)
    return [
        *shapes,
        OperatorShape("fusion", *at(8), joined, fused, kernel=1),
        OperatorShape("head", *at(8), fused, num_classes),
    ]


def published_latency(
    architecture: Architecture,
    milliseconds: Mapping[str, float],
    *,
    official: bool = True,
    size: tuple[int, int] = (1024, 2048),
) -> float:
    """The sum of a table's entries, named as the published one's, for the deployed network, in milliseconds.

    Raises:
        FeathersegError: the table lacks an operator on its shape.
    """
    total = 0.0
    for shape in operator_shapes(architecture, size):
        key = shape.published_key(official=official)
        if key not in milliseconds:
            raise FeathersegError(f"the table of latencies has no entry {key}. Measure it, or take another table.")
        total += milliseconds[key]
    return total
