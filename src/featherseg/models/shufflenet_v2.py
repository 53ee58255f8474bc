"""ShuffleNet V2 1.0x: the trunk of the mobile DeepLab networks at output stride 8, 16 or 32, and the classifier.

Ma et al., ECCV 2018; as a segmentation encoder: Türkmen and Heikkilä, "An efficient solution for semantic segmentation:
ShuffleNet V2 with atrous separable convolutions", 2019.

| part    | units | out | stride, rates of the units (first / rest) at output stride      | parameters |
|         |       |     | 32            | 16            | 8                               |            |
|---------|-------|-----|---------------|---------------|---------------------------------|------------|
| conv1   | -     | 24  | 2             | 2             | 2                               | 696        |
| pool    | -     | 24  | 2             | 2             | 2                               | -          |
| stage2  | 4     | 116 | 2, 1 / 1      | 2, 1 / 1      | 2, 1 / 1                        | 26,962     |
| stage3  | 8     | 232 | 2, 1 / 1      | 2, 1 / 1      | 1, 1 / 2                        | 244,180    |
| stage4  | 4     | 464 | 2, 1 / 1      | 1, 1 / 2      | 1, 2 / 4                        | 501,352    |

Design choices:
- ``dilation="released"`` is the published code, which sets the stride to 1 before it multiplies the rate by it, so that
  every rate stays 1; the published weights were trained so. At output stride 8 it is refused: the maps would be four
  times as large without seeing further, and nothing was published with it.
- ``routing="tf"`` is the published code's: the first half of the shuffled channels is processed, the rest passes, and
  the stage ends unshuffled. ``"torchvision"`` passes the first half and shuffles after every unit. Weights of one are
  not weights of the other, and no tensor's shape tells them apart.
- the first unit of stage 2 has 24 channels in the middle (the published code, whose count the paper's GFLOPs match) or
  58 (Ma et al. and torchvision).
- the shuffle is a transposition of four axes, as old mobile interpreters demand, in the memory format of its input.
"""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models.layers import initialise_convolutions
from featherseg.models.mobile_layers import (
    ConvBN,
    HalvingMaxPool,
    LayerStyle,
    Padding,
    check_choice,
    input_spec,
    strides_and_rates,
)
from featherseg.models.registry import register_model

Routing = Literal["tf", "torchvision"]
Dilation = Literal["paper", "released"]
STEM_CHANNELS = 24
STAGES = ((4, 58), (8, 116), (4, 232))  # (units, channels of a half) of stages 2, 3 and 4


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """The channel shuffle of two halves ``[B, C, H, W]``: ``first[0], second[0], first[1], ...``."""
    joined = torch.cat((first, second), 1)
    batch, channels, height, width = joined.shape
    if joined.is_contiguous(memory_format=torch.channels_last) and not joined.is_contiguous():
        rows = joined.permute(0, 2, 3, 1).reshape(batch, height * width, 2, channels // 2)
        return rows.transpose(2, 3).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    rows = joined.reshape(batch, 2, channels // 2, height * width)
    return rows.transpose(1, 2).reshape(batch, channels, height, width)


def _depthwise(channels: int, stride: int, rate: int, style: LayerStyle) -> ConvBN:
    return ConvBN(channels, channels, 3, stride, rate, channels, style=style, activate=False)


class BasicUnit(nn.Module):
    """What one half of the channels goes through: 1x1, depthwise 3x3 without activation, 1x1."""

    def __init__(self, half: int, rate: int, style: LayerStyle) -> None:
        super().__init__()
        self.before = ConvBN(half, half, style=style)
        self.depthwise = _depthwise(half, 1, rate, style)
        self.after = ConvBN(half, half, style=style)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.depthwise(self.before(x)))


class DownsamplingUnit(nn.Module):
    """The first unit of a stage: two branches over all channels, ``(second, main)``, each ``[B, half, h, w]``."""

    def __init__(
        self, in_channels: int, mid_channels: int, half: int, stride: int, rate: int, style: LayerStyle
    ) -> None:
        super().__init__()
        self.main = nn.Sequential(
            OrderedDict(
                before=ConvBN(in_channels, mid_channels, style=style),
                depthwise=_depthwise(mid_channels, stride, rate, style),
                after=ConvBN(mid_channels, half, style=style),
            )
        )
        self.second = nn.Sequential(
            OrderedDict(
                depthwise=_depthwise(in_channels, stride, rate, style), after=ConvBN(in_channels, half, style=style)
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.second(x), self.main(x)


class Stage(nn.ModuleList):
    """A downsampling unit and basic units, with the channels routed between them."""

    def __init__(self, units: list[nn.Module], routing: Routing) -> None:
        super().__init__(units)
        self.routing = routing

    def forward(self, x: Tensor) -> Tensor:
        first, second = self[0](x)
        for unit in list(self)[1:]:
            head, tail = interleave(first, second).chunk(2, 1)
            first, second = (unit(head), tail) if self.routing == "tf" else (head, unit(tail))
        return torch.cat((first, second), 1) if self.routing == "tf" else interleave(first, second)


class ShuffleNetV2Trunk(nn.Module):
    """``forward``: float ``[B, 3, H, W]`` to the map of stride 4, 24 channels, and the last one, 464 channels.

    Raises:
        FeathersegError: an argument is none of its choices, or ``dilation="released"`` is asked for at stride 8.
    """

    out_channels, skip_channels = 2 * STAGES[-1][1], STEM_CHANNELS

    def __init__(
        self,
        style: LayerStyle,
        output_stride: int = 32,
        dilation: Dilation = "paper",
        routing: Routing = "tf",
        stage2_mid_channels: int = 24,
    ) -> None:
        super().__init__()
        check_choice("dilation", dilation, ("paper", "released"))
        check_choice("routing", routing, ("tf", "torchvision"))
        check_choice("stage2_mid_channels", stage2_mid_channels, (STEM_CHANNELS, STAGES[0][1]))
        if dilation == "released" and output_stride == 8:
            raise FeathersegError(
                'dilation="released" is refused at output_stride 8: the released code leaves every rate at 1, so that '
                "stages 3 and 4 would see half and a quarter of the context they were made for, and no weights were "
                'published so. Take dilation="paper", or output_stride 16.'
            )
        strides = [stride for units, _ in STAGES for stride in (2, *[1] * (units - 1))]
        # The convolution and the pooling of the stem come before the units.
        layers = iter(strides_and_rates([2, 2, *strides], output_stride)[2:])
        self.conv1 = ConvBN(3, STEM_CHANNELS, 3, 2, style=style)
        self.pool = HalvingMaxPool(style.padding)
        stages: list[Stage] = []
        channels, mid_channels = STEM_CHANNELS, stage2_mid_channels
        for count, half in STAGES:
            units: list[nn.Module] = []
            for _ in range(count):
                stride, rate = next(layers)
                if dilation == "released":
                    rate = 1
                if units:
                    units.append(BasicUnit(half, rate, style))
                else:
                    units.append(DownsamplingUnit(channels, mid_channels, half, stride, rate, style))
            stages.append(Stage(units, routing))
            channels = mid_channels = 2 * half
        self.stage2, self.stage3, self.stage4 = stages

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.pool(self.conv1(x))
        return skip, self.stage4(self.stage3(self.stage2(skip)))


class ShuffleNetV2Classifier(nn.Module):
    """The trunk ``base``, a 1x1 convolution to 1024 channels, global average pooling and a linear layer.

    ``forward``: float ``[B, 3, H, W]`` to logits ``[B, num_classes]``.
    """

    logits_prefixes = ("fc.",)

    def __init__(self, num_classes: int, base: ShuffleNetV2Trunk, style: LayerStyle, normalisation: str) -> None:
        super().__init__()
        self.base = base
        self.conv5 = ConvBN(base.out_channels, 1024, style=style)
        self.fc = nn.Linear(1024, num_classes)
        self.input_spec = input_spec(normalisation, 32)
        initialise_convolutions(self, lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.conv5(self.base(images)[1]).mean((2, 3)))


@register_model("shufflenet_v2", task="classification")
def shufflenet_v2(
    num_classes: int = 1000,
    *,
    routing: Routing = "torchvision",
    padding: Padding = "symmetric",
    stage2_mid_channels: int = 58,
    normalisation: str = "imagenet",
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
) -> ShuffleNetV2Classifier:
    """ShuffleNet V2 1.0x as torchvision has it; to start ``shufflenet_v2_dpc`` give both the same arguments."""
    style = LayerStyle(padding, norm_eps, norm_momentum)
    base = ShuffleNetV2Trunk(style, routing=routing, stage2_mid_channels=stage2_mid_channels)
    return ShuffleNetV2Classifier(num_classes, base, style, normalisation)
