"""The light one-stage detector of the pyramid paper: a mobile trunk up to layer 17 and a region proposal network.

Nguyen, "A Lightweight and Efficient Deep Convolutional Neural Network Based on Depthwise Dilated Separable
Convolution", JATIT 98(15), 2020, Sec. 3.4 and Fig. 7. The proposals, after suppression, are the result.

| part                                    | parameters | MACs at 384x1248 |
|-----------------------------------------|------------|------------------|
| trunk to 320 channels at stride 32      |  1,825,984 |          2.669 G |
| `pyramid_rpn`: 3x3, scores, deltas      |    960,440 |          0.449 G |
| `pyramid_rpn_multi`: top-down, a head   |     68,717 |          0.427 G |

Design choices:
- the paper leaves the anchors open; 8 sizes x 3 ratios on the one map, small enough for cars (see anchors.py), others
  by ``sizes`` and ``ratios``;
- a map of stride 32 cannot see cars of 25 to 40 pixels. `pyramid_rpn_multi` lays its anchors on strides 8, 16 and 32:
  1x1 convolutions bring the trunk's maps to 64 channels, each is added to the one above enlarged (Lin et al. 2017),
  and one head serves all three. With 64 channels it costs no more than the paper's head on its one map;
- scores are one logit a class (objectness, where there is one class), independent of each other;
- ``prior`` is the probability that a fresh network gives every anchor: 0.5 is a bias of zero as in RPN, 0.01 is for
  the focal loss (Lin et al. 2017b).
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.models.anchors import SINGLE_LEVEL, THREE_LEVELS, AnchorLevel, level_anchors
from featherseg.models.detection_output import DetectionOutput, DetectorSpec, flat_maps
from featherseg.models.layers import initialise_convolutions
from featherseg.models.mobile_layers import check_choice, input_spec
from featherseg.models.registry import create_model, register_model

Trunk = Literal["pyramid_mobilenet", "mobilenet_v2"]
TRUNKS = ("pyramid_mobilenet", "mobilenet_v2")
TOP_DOWN_CHANNELS = 64


@dataclass(frozen=True)
class Taps:
    """The blocks of a trunk whose maps are used, and the channels of those maps."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...]


def trunk_taps(base: nn.Module, strides: tuple[int, ...]) -> Taps:
    """The last blocks of ``base``, a trunk of ``stem`` and ``blocks``, that give maps of ``strides``.

    Raises:
        FeathersegError: there is no map of such a stride.
    """
    reached, last = _stride(base.stem), {}  # type: ignore[arg-type]
    for index, block in enumerate(base.blocks):  # type: ignore[arg-type]
        reached *= _stride(block)
        last[reached] = (index, _convolutions(block)[-1].out_channels)
    missing = [stride for stride in strides if stride not in last]
    if missing:
        raise FeathersegError(f"the trunk has no map of stride {missing[0]}; it has {', '.join(map(str, last))}.")
    return Taps(tuple(last[stride][0] for stride in strides), tuple(last[stride][1] for stride in strides))


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _stride(module: nn.Module) -> int:
    return max(convolution.stride[0] for convolution in _convolutions(module))


class RPNHead(nn.Module):
    """3x3 convolution with ReLU, then 1x1 convolutions to scores and to deltas, from normal(0, 0.01).

    ``forward``: maps ``[B, C, h, w]`` to a :class:`DetectionOutput`.
    """

    def __init__(self, channels: int, anchors: int, num_classes: int, prior: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.scores = nn.Conv2d(channels, anchors * num_classes, 1)
        self.deltas = nn.Conv2d(channels, anchors * 4, 1)
        for layer in (self.conv, self.scores, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.scores.bias, -math.log(1 / prior - 1))  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> DetectionOutput:
        hidden = [F.relu(self.conv(x)) for x in maps]
        scores = flat_maps([self.scores(x) for x in hidden], self.num_classes)
        return DetectionOutput(scores, flat_maps([self.deltas(x) for x in hidden], 4))


class TopDown(nn.Module):
    """Maps of falling resolution to ``channels`` each, the coarser added to the finer (Lin et al. 2017, Sec. 3)."""

    def __init__(self, in_channels: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        initialise_convolutions(self, lambda weight: nn.init.kaiming_uniform_(weight, a=1))
        for layer in self.lateral:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        merged = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for finer in range(len(merged) - 2, -1, -1):
            above = F.interpolate(merged[finer + 1], size=merged[finer].shape[2:], mode="nearest")
            merged[finer] = merged[finer] + above
        return merged


class PyramidRPN(nn.Module):
    """A trunk, one or more of its maps, and the region proposal network on them.

    ``forward``: float ``[B, 3, H, W]`` to :class:`DetectionOutput` of the anchors that :meth:`anchors` gives.

    Args:
        base: trunk, with ``stem`` and ``blocks``.
        num_classes: foreground classes, 1 for "vehicle".
        levels: anchors by map.
        top_down: channels of the top-down path; None takes the one map as it is.
        prior: probability that the fresh network gives each anchor.
        normalisation: of the pixels.

    Raises:
        FeathersegError: the trunk lacks a map, or ``prior`` is no probability.
    """

    logits_prefixes = ("head.scores.",)
    trunk_argument = "trunk_arguments"  # in which the trunk's own arguments are given
    detector_spec = DetectorSpec()

    def __init__(
        self,
        base: nn.Module,
        num_classes: int,
        levels: tuple[AnchorLevel, ...],
        top_down: int | None,
        prior: float,
        normalisation: str,
    ) -> None:
        super().__init__()
        if not isinstance(prior, float) or not 0 < prior < 1:
            raise FeathersegError(f"prior is {prior!r}; it must be a probability between 0 and 1, 0.5 or 0.01 say.")
        self.num_classes = num_classes
        self.levels = levels
        self.base = base
        self.taps = trunk_taps(base, tuple(level.stride for level in levels))
        self.top_down = None if top_down is None else TopDown(self.taps.channels, top_down)
        channels = self.taps.channels[-1] if top_down is None else top_down
        self.head = RPNHead(channels, levels[0].count, num_classes, prior)
        self.input_spec = input_spec(normalisation, 32)

    def forward(self, images: Tensor) -> DetectionOutput:
        x, maps = self.base.stem(images), []  # type: ignore[operator]
        for index, block in enumerate(self.base.blocks):  # type: ignore[arg-type]
            x = block(x)
            if index in self.taps.blocks:
                maps.append(x)
        return self.head(maps if self.top_down is None else self.top_down(maps))

    def anchors(self, height: int, width: int) -> Tensor:
        """Float32 ``[N, 4]`` (x1, y1, x2, y2) in pixels of an input of ``height`` x ``width``."""
        return level_anchors(self.levels, height, width)


def build_trunk(trunk: str, arguments: dict[str, Any] | None) -> nn.Module:
    """The trunk of the classifier ``trunk``, made with its ``arguments``.

    Raises:
        FeathersegError: the name or an argument is unknown.
    """
    check_choice("trunk", trunk, TRUNKS)
    return create_model(trunk, 1, **(arguments or {})).base  # type: ignore[return-value]


def anchor_levels(levels: tuple[AnchorLevel, ...], sizes: Any, ratios: Any) -> tuple[AnchorLevel, ...]:
    """``levels`` with other anchors.

    Args:
        levels: the default ones.
        sizes: roots of the areas in pixels, shared out evenly among the levels, the first to the finest; None keeps
            those of ``levels``.
        ratios: heights over widths, or None.

    Raises:
        FeathersegError: these are no lists of positive numbers, or the sizes cannot be shared out evenly.
    """
    for name, values in (("sizes", sizes), ("ratios", ratios)):
        if values is not None and not _are_lengths(values):
            raise FeathersegError(f"{name} is {values!r}; it must be a list of numbers above 0, such as [32, 64, 128].")
    shares = [level.sizes for level in levels]
    if sizes is not None:
        each, rest = divmod(len(sizes), len(levels))
        if rest:
            raise FeathersegError(
                f"sizes: {len(sizes)} sizes, {list(sizes)}, do not go evenly onto {len(levels)} maps. Give as many for "
                "each, the smallest first."
            )
        shares = [tuple(sizes[place * each : (place + 1) * each]) for place in range(len(levels))]
    return tuple(
        AnchorLevel(level.stride, share, level.ratios if ratios is None else tuple(ratios))
        for level, share in zip(levels, shares, strict=True)
    )


def _are_lengths(values: Any) -> bool:
    if not isinstance(values, list | tuple) or not values:
        return False
    return all(type(value) in (int, float) and 0 < value < math.inf for value in values)


@register_model("pyramid_rpn", task="detection")
def pyramid_rpn(
    num_classes: int = 1,
    *,
    trunk: Trunk = "pyramid_mobilenet",
    trunk_arguments: dict[str, Any] | None = None,
    levels: tuple[int, ...] = (32,),
    sizes: tuple[float, ...] | None = None,
    ratios: tuple[float, ...] | None = None,
    prior: float = 0.5,
    normalisation: str = "imagenet",
) -> PyramidRPN:
    """The paper's detector on the one map of stride 32, or with ``levels`` (8, 16, 32) on three maps.

    ``sizes`` and ``ratios`` are those of the anchors, as :func:`anchor_levels` takes them.
    """
    check_choice("levels", tuple(levels), ((32,), (8, 16, 32)))
    one = tuple(levels) == (32,)
    default, top_down = (SINGLE_LEVEL, None) if one else (THREE_LEVELS, TOP_DOWN_CHANNELS)
    anchors = anchor_levels(default, sizes, ratios)
    return PyramidRPN(build_trunk(trunk, trunk_arguments), num_classes, anchors, top_down, prior, normalisation)


@register_model("pyramid_rpn_multi", task="detection")
def pyramid_rpn_multi(
    num_classes: int = 1,
    *,
    trunk: Trunk = "pyramid_mobilenet",
    trunk_arguments: dict[str, Any] | None = None,
    sizes: tuple[float, ...] | None = None,
    ratios: tuple[float, ...] | None = None,
    prior: float = 0.5,
    normalisation: str = "imagenet",
) -> PyramidRPN:
    """The detector on the maps of strides 8, 16 and 32, joined from the top down; ``sizes`` are those of all three."""
    base, anchors = build_trunk(trunk, trunk_arguments), anchor_levels(THREE_LEVELS, sizes, ratios)
    return PyramidRPN(base, num_classes, anchors, TOP_DOWN_CHANNELS, prior, normalisation)
