"""MobileNet V2 with pyramids of dilated depthwise convolutions: trunk (output stride 8, 16 or 32) and classifier.

Nguyen, "A lightweight and efficient deep convolutional neural network based on depthwise dilated separable
convolution", JATIT 98(15), 2020. Table 3 is MobileNet V2's table (``mobilenet_v2.py``) with the block replaced:

| layer | stride | input (224) | out | hidden | channels of a rate (K = 4) |
|-------|--------|-------------|-----|--------|----------------------------|
| 0     | 2      | 224 x 3     | 32  |        | convolution 3x3            |
| 1     | 1      | 112 x 32    | 16  | 32     | 8                          |
| 2-3   | 2, 1   | 112 x 16    | 24  | 96-144 | 24-36                      |
| 4-6   | 2, 1   | 56 x 24     | 32  | 144-192| 36-48                      |
| 7     | 2      | 28 x 32     | 64  | 192    | 48                         |
| 8-13  | 1      | 14 x 64     | 96  | 384-576| 96-144                     |
| 14    | 2      | 14 x 96     | 160 | 576    | 144                        |
| 15-17 | 1      | 7 x 160     | 320 | 960    | 240                        |
| 18    | 1      | 7 x 320     | 1280|        | convolution 1x1            |

3,520,424 parameters and 300.8 M multiply-accumulates at 1000 classes; MobileNet V2 has 3,504,872 and the same.

Design choices, where the paper leaves them open (docs/papers/pyramid_mobilenet.md has the reasons):
- ``reading="split"``: each of the K rates has its own K-th of the expanded channels, which alone keeps parameters and
  cost as the paper claims. ``"full"``: each rate has all of them. ``"reduce"``: the expansion is to a K-th, and each
  rate has all of that (ESPNetv2's unit, Mehta et al. 2019);
- ``widths="condensed"``: the merged rows of Table 3 are MobileNet V2's layers; ``"early"`` and ``"late"`` change the
  width at the first or the last layer of such a row;
- ``rates`` are 1, 2, 3, 4 in every layer; ``"capped"`` are these where the kernel's field fits the map, as in ESPNetv2;
- PReLU with a slope a channel, 0.25 at first; with one rate of 1 and ReLU6 this is MobileNet V2, tensor for tensor;
- weights start as in He et al. 2015: variance 2 / ((1 + slope^2) fan out); fan in, 9, of depthwise kernels.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models.layers import PReLU
from featherseg.models.mobile_layers import LayerStyle, check_choice
from featherseg.models.mobilenet_v2 import (
    GROUPS,
    HEAD_CHANNELS,
    STEM_CHANNELS,
    BlockGroup,
    InvertedResidualClassifier,
    InvertedResidualTrunk,
)
from featherseg.models.norm import batch_norm_activation
from featherseg.models.norm_prelu import batch_norm_prelu
from featherseg.models.pyramid_depthwise import NormActivation, PyramidDepthwiseConv2d, pyramid_in_use, usable_on_cpu
from featherseg.models.registry import register_model

Reading = Literal["split", "full", "reduce"]
ActivationName = Literal["prelu", "relu6"]
LAYERS = 17
DEFAULT_RATES = (1, 2, 3, 4)
SLOPE = 0.25
# Blocks of each width in the readings of Table 3's merged rows, 8-13 and 15-17.
WIDTHS = {
    "condensed": tuple(group.blocks for group in GROUPS),
    "early": (1, 2, 3, 1, 6, 1, 3),
    "late": (1, 2, 3, 6, 1, 3, 1),
}
# ESPNetv2's largest receptive field at the stride of a layer's input: 13 pixels at stride 2, and so on.
FIELD_LIMITS = {2: 13, 4: 11, 8: 9, 16: 7, 32: 5}


def receptive_field(kernel: int, rate: int) -> int:
    """Equation 1: the side of the field that a ``kernel`` wide convolution of this rate sees, (n - 1) r + 1."""
    return (kernel - 1) * rate + 1


def capped_rates(input_stride: int, rates: Sequence[int] = DEFAULT_RATES) -> tuple[int, ...]:
    """``rates`` with those whose field exceeds the limit at this stride replaced by 1, sorted (ESPNetv2).

    >>> capped_rates(4), capped_rates(16), capped_rates(32)
    ((1, 2, 3, 4), (1, 1, 2, 3), (1, 1, 1, 2))
    """
    limit = FIELD_LIMITS[input_stride]
    return tuple(sorted(rate if receptive_field(3, rate) <= limit else 1 for rate in rates))


def _is_rates(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(type(rate) is int and rate >= 1 for rate in value)


def rates_of_layers(rates: Any) -> tuple[tuple[int, ...], ...]:
    """Each layer's rates: ``rates`` is ``"capped"``, one layer's for all, or those of the 17 layers one after another.

    Raises:
        FeathersegError: it is none of these.
    """
    if rates == "capped":
        strides, reached = [], 2
        for group in GROUPS:
            for block in range(group.blocks):
                strides.append(reached)
                reached *= group.stride if block == 0 else 1
        return tuple(capped_rates(stride) for stride in strides)
    if _is_rates(rates):
        return (tuple(rates),) * LAYERS
    if isinstance(rates, list | tuple) and len(rates) == LAYERS and all(_is_rates(each) for each in rates):
        return tuple(tuple(each) for each in rates)
    raise FeathersegError(
        f"rates is {rates!r}; it must be capped, a list of whole numbers of at least 1 for all layers ([1, 2, 3, 4]), "
        f"or {LAYERS} such lists, one for each layer."
    )


def _groups(widths: str) -> tuple[BlockGroup, ...]:
    check_choice("widths", widths, tuple(WIDTHS))
    return tuple(
        BlockGroup(blocks, group.out_channels, group.stride, group.kernel, group.expansion)
        for blocks, group in zip(WIDTHS[widths], GROUPS, strict=True)
    )


class ConvNorm(nn.Module):
    """A convolution, batch norm, and PReLU or ReLU6 unless ``activation`` is None; sub-modules conv, bn and acti."""

    def __init__(self, conv: nn.Conv2d, style: LayerStyle, activation: ActivationName | None) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels, eps=style.eps, momentum=style.momentum)
        self.acti = PReLU(conv.out_channels, SLOPE) if activation == "prelu" else None
        self.relu6 = activation == "relu6"

    def forward(self, x: Tensor) -> Tensor:
        return self.after_convolution(self.conv(x))

    def after_convolution(self, x: Tensor) -> Tensor:
        """Batch norm and activation."""
        if self.acti is not None:
            return batch_norm_prelu(self.bn, self.acti, x)
        return batch_norm_activation(self.bn, x, "relu6") if self.relu6 else self.bn(x)

    def norm_activation(self) -> NormActivation:
        """What follows the convolution, with running statistics."""
        slopes = None if self.acti is None else self.acti.weight
        return NormActivation(self.bn, slopes, 6.0 if self.relu6 else torch.inf)


def _pointwise(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


class PyramidBlock(nn.Module):
    """Expansion, a pyramid of depthwise convolutions, linear projection; a residual where shapes agree (Fig. 5).

    ``forward``: ``[B, in, H, W]`` to ``[B, out, ceil(H / stride), ceil(W / stride)]``.

    Args:
        in_channels, out_channels, expansion, stride: as in an inverted residual.
        rates: of the K branches.
        style: eps and momentum of batch norm.
        activation: after the expansion and the pyramid.
        reading: how the branches share the channels, see above.
        name: for messages.

    Raises:
        FeathersegError: K rates do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        stride: int,
        rates: tuple[int, ...],
        style: LayerStyle,
        activation: ActivationName = "prelu",
        reading: Reading = "split",
        name: str = "the block",
    ) -> None:
        super().__init__()
        middle = in_channels * expansion
        if reading != "full" and middle % len(rates):
            raise FeathersegError(
                f"rates: {len(rates)} rates, {list(rates)}, do not divide the {middle} channels of {name} evenly. Give "
                f"it as many as divide {middle}, such as "
                f"{', '.join(str(k) for k in range(1, 9) if middle % k == 0)}, or reading=full."
            )
        seen = middle // len(rates) if reading == "reduce" else middle
        joined = middle * len(rates) if reading == "full" else middle
        self.expand = None
        if seen != in_channels or expansion > 1:
            self.expand = ConvNorm(_pointwise(in_channels, seen), style, activation)
        self.depthwise = ConvNorm(PyramidDepthwiseConv2d(seen, joined, stride, rates), style, activation)
        self.project = ConvNorm(_pointwise(joined, out_channels), style, None)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self._pyramid(x))
        return x + y if self.residual else y

    def _pyramid(self, x: Tensor) -> Tensor:
        """What enters the projection: where it may be, batch norms, activations and pyramid as one operator."""
        before, layer = self.expand, self.depthwise
        if not self._plain_in_use():
            return layer(x if before is None else before(x))
        if before is not None:
            x = before.conv(x)
        elif torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        convolution: PyramidDepthwiseConv2d = layer.conv  # type: ignore[assignment]
        if not usable_on_cpu(x, convolution.weight):
            return layer(x if before is None else before.after_convolution(x))
        norm = None if before is None else before.norm_activation()
        return pyramid_in_use(x, norm, convolution, layer.norm_activation())

    def _plain_in_use(self) -> bool:
        """Whether the layers before the projection are as built, in ``eval()``, and nobody listens to them."""
        if self.training or torch.is_grad_enabled():
            return False
        for layer in (self.depthwise,) if self.expand is None else (self.depthwise, self.expand):
            if type(layer.bn) is not nn.BatchNorm2d or layer.conv.bias is not None or layer.bn.training:
                return False
            for module in (layer, layer.conv, layer.bn, layer.acti):
                if module is not None and (module._forward_hooks or module._forward_pre_hooks):
                    return False
        return type(self.depthwise.conv) is PyramidDepthwiseConv2d and not self.depthwise.conv.shared


class PyramidTrunk(InvertedResidualTrunk):
    """A strided 3x3 convolution and 17 pyramid blocks: layers 0 to 17 of Table 3.

    ``forward``: float ``[B, 3, H, W]`` to the last map of stride 4, 24 channels, and the last map of all, 320 channels.
    At an ``output_stride`` below 32 the rates of a block are multiplied as a plain block's rate of 1 would be.

    Raises:
        FeathersegError: an argument is none of its choices, or rates do not divide the channels.
    """

    def __init__(
        self,
        style: LayerStyle,
        output_stride: int = 32,
        *,
        rates: Any = DEFAULT_RATES,
        reading: Reading = "split",
        widths: str = "condensed",
        activation: ActivationName = "prelu",
    ) -> None:
        layers = rates_of_layers(rates)
        check_choice("reading", reading, ("split", "full", "reduce"))
        check_choice("activation", activation, ("prelu", "relu6"))

        def build(number: int, in_channels: int, group: BlockGroup, stride: int, rate: int) -> PyramidBlock:
            own = tuple(rate * each for each in layers[number])
            settings = (group.expansion, stride, own, style, activation, reading, f"layer {number + 1}")
            return PyramidBlock(in_channels, group.out_channels, *settings)

        super().__init__(_groups(widths), style, output_stride, build)
        self.rates = layers  # before an output stride multiplies them
        self.stem = ConvNorm(nn.Conv2d(3, STEM_CHANNELS, 3, 2, 1, bias=False), style, activation)
        initialise(self)


def initialise(module: nn.Module) -> None:
    """He et al. 2015 for every convolution, by the slope that PReLUs begin with; linear layers N(0, 0.01)."""
    slope = SLOPE if any(isinstance(layer, nn.PReLU) for layer in module.modules()) else 0.0
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            # PyTorch's fan out of a depthwise kernel leaves the groups out of account.
            mode = "fan_out" if layer.groups == 1 else "fan_in"
            nn.init.kaiming_normal_(layer.weight, slope, mode)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


class PyramidClassifier(InvertedResidualClassifier):
    """Layers 18 to 20 behind a trunk: 1x1 convolution to 1280 channels, average pooling, dropout, a linear layer."""

    def __init__(
        self, num_classes: int, base: PyramidTrunk, style: LayerStyle, activation: ActivationName, normalisation: str
    ) -> None:
        super().__init__(num_classes, base, style, normalisation)
        self.head = ConvNorm(_pointwise(base.out_channels, HEAD_CHANNELS), style, activation)
        initialise(self)


@register_model("pyramid_mobilenet", task="classification")
def pyramid_mobilenet(
    num_classes: int = 1000,
    *,
    rates: Any = DEFAULT_RATES,
    reading: Reading = "split",
    widths: str = "condensed",
    activation: ActivationName = "prelu",
    normalisation: str = "imagenet",
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
) -> PyramidClassifier:
    """The paper's classifier; ``rates`` as :func:`rates_of_layers` has them."""
    style = LayerStyle(eps=norm_eps, momentum=norm_momentum, relu6=True)
    base = PyramidTrunk(style, rates=rates, reading=reading, widths=widths, activation=activation)
    return PyramidClassifier(num_classes, base, style, activation, normalisation)
