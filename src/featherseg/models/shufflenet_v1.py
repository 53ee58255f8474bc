"""ShuffleNet V1 1x: the classifier that pyramid_mobilenet is compared with, for any of the published numbers of groups.

Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices", CVPR 2018, Table 1.

| part    | units | stride of the first | out at groups 1 / 2 / 3 / 4 / 8 |
|---------|-------|---------------------|---------------------------------|
| conv1   |       | 2                   | 24                              |
| pool    |       | 2                   | 24                              |
| stage2  | 4     | 2                   | 144 / 200 / 240 / 272 / 384     |
| stage3  | 8     | 2                   | 288 / 400 / 480 / 544 / 768     |
| stage4  | 4     | 2                   | 576 / 800 / 960 / 1088 / 1536   |

1,865,728 parameters and 137.5 M multiply-accumulates at 3 groups, 224x224 and 1000 classes.

Design choices:
- 3 groups by default: the comparison does not say how many;
- a unit's middle is a quarter of its output, in the first of a stage too, where the pooled input brings part of it;
- the first 1x1 convolution of stage 2 has no groups, since its 24 channels are few;
- the shuffle is a transposition of four axes, in the memory format of its input, as in ``shufflenet_v2.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.models.layers import initialise_convolutions
from featherseg.models.mobile_layers import ConvBN, LayerStyle, check_choice, input_spec
from featherseg.models.registry import register_model

STEM_CHANNELS = 24
UNITS = (4, 8, 4)  # of stages 2, 3 and 4
WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of stage 2, by groups; each stage doubles it


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel ``g * n + i`` of ``[B, groups * n, H, W]`` goes to ``i * groups + g``."""
    batch, channels, height, width = x.shape
    if groups == 1:
        return x
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, groups, channels // groups)
        return rows.transpose(2, 3).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    rows = x.reshape(batch, groups, channels // groups, height * width)
    return rows.transpose(1, 2).reshape(batch, channels, height, width)


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; added to the input, or at stride 2 joined with it pooled."""

    def __init__(
        self, in_channels: int, out_channels: int, groups: int, stride: int, style: LayerStyle, *, grouped: bool
    ) -> None:
        super().__init__()
        middle = out_channels // 4
        self.groups, self.stride = groups, stride
        self.before = ConvBN(in_channels, middle, groups=groups if grouped else 1, style=style)
        self.depthwise = ConvBN(middle, middle, 3, stride, groups=middle, style=style, activate=False)
        computed = out_channels - in_channels if stride == 2 else out_channels
        self.after = ConvBN(middle, computed, groups=groups, style=style, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.after(self.depthwise(shuffle(self.before(x), self.groups)))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat((F.avg_pool2d(x, 3, 2, padding=1), y), 1))


class ShuffleNetV1Trunk(nn.Module):
    """``forward``: float ``[B, 3, H, W]`` to ``[B, C, ceil(H / 32), ceil(W / 32)]``, 960 channels at 3 groups.

    Raises:
        FeathersegError: ``groups`` is none of 1, 2, 3, 4 and 8.
    """

    def __init__(self, style: LayerStyle, groups: int = 3) -> None:
        super().__init__()
        check_choice("groups", groups, tuple(WIDTHS))
        self.conv1 = ConvBN(3, STEM_CHANNELS, 3, 2, style=style)
        channels, width = STEM_CHANNELS, WIDTHS[groups]
        stages = []
        for units in UNITS:
            stage = nn.Sequential()
            for number in range(units):
                grouped = channels != STEM_CHANNELS
                stage.append(ShuffleUnit(channels, width, groups, 1 if number else 2, style, grouped=grouped))
                channels = width
            stages.append(stage)
            width *= 2
        self.stage2, self.stage3, self.stage4 = stages
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 3, 2, padding=1)
        return self.stage4(self.stage3(self.stage2(x)))


class ShuffleNetV1Classifier(nn.Module):
    """The trunk, global average pooling and a linear layer: float ``[B, 3, H, W]`` to logits ``[B, num_classes]``."""

    logits_prefixes = ("fc.",)

    def __init__(self, num_classes: int, base: ShuffleNetV1Trunk, normalisation: str) -> None:
        super().__init__()
        self.base = base
        self.fc = nn.Linear(base.out_channels, num_classes)
        self.input_spec = input_spec(normalisation, 32)
        initialise_convolutions(self, lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.base(images).mean((2, 3)))


@register_model("shufflenet_v1", task="classification")
def shufflenet_v1(
    num_classes: int = 1000,
    *,
    groups: int = 3,
    normalisation: str = "imagenet",
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
) -> ShuffleNetV1Classifier:
    """ShuffleNet V1 1x."""
    base = ShuffleNetV1Trunk(LayerStyle(eps=norm_eps, momentum=norm_momentum), groups)
    return ShuffleNetV1Classifier(num_classes, base, normalisation)
