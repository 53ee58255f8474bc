"""MobileNet V1 1.0: the classifier that pyramid_mobilenet is compared with.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017, Table 1.

| layers                      | out  | stride     |
|-----------------------------|------|------------|
| convolution 3x3             | 32   | 2          |
| separable 1                 | 64   | 1          |
| separable 2-3               | 128  | 2, 1       |
| separable 4-5               | 256  | 2, 1       |
| separable 6-11              | 512  | 2, 1, ...  |
| separable 12-13             | 1024 | 2, 1       |
| average pooling, linear     | 1000 |            |

4,231,976 parameters and 568.7 M multiply-accumulates at 224x224 and 1000 classes.

Design choices:
- batch norm and ReLU after both halves of a separable convolution, as the paper writes; TensorFlow's code has ReLU6;
- the last stride is 1: the paper prints 2, and a map of 7x7 before and after it;
- no dropout: the paper gives none.
"""

from torch import Tensor, nn

from featherseg.models.layers import initialise_convolutions
from featherseg.models.mobile_layers import ConvBN, LayerStyle, input_spec
from featherseg.models.registry import register_model

STEM_CHANNELS = 32
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class SeparableConv(nn.Module):
    """A depthwise 3x3 and a 1x1 convolution, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, style: LayerStyle) -> None:
        super().__init__()
        self.depthwise = ConvBN(in_channels, in_channels, 3, stride, groups=in_channels, style=style)
        self.pointwise = ConvBN(in_channels, out_channels, style=style)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class MobileNetV1Trunk(nn.Module):
    """``forward``: float ``[B, 3, H, W]`` to ``[B, 1024, ceil(H / 32), ceil(W / 32)]``."""

    def __init__(self, style: LayerStyle) -> None:
        super().__init__()
        self.stem = ConvBN(3, STEM_CHANNELS, 3, 2, style=style)
        self.blocks = nn.Sequential()
        channels = STEM_CHANNELS
        for out_channels, stride in SEPARABLE:
            self.blocks.append(SeparableConv(channels, out_channels, stride, style))
            channels = out_channels
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))


class MobileNetV1Classifier(nn.Module):
    """The trunk, global average pooling and a linear layer: float ``[B, 3, H, W]`` to logits ``[B, num_classes]``."""

    logits_prefixes = ("fc.",)

    def __init__(self, num_classes: int, style: LayerStyle, normalisation: str) -> None:
        super().__init__()
        self.base = MobileNetV1Trunk(style)
        self.fc = nn.Linear(self.base.out_channels, num_classes)
        self.input_spec = input_spec(normalisation, 32)
        initialise_convolutions(self, lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.base(images).mean((2, 3)))


@register_model("mobilenet_v1", task="classification")
def mobilenet_v1(
    num_classes: int = 1000, *, normalisation: str = "imagenet", norm_eps: float = 1e-5, norm_momentum: float = 0.1
) -> MobileNetV1Classifier:
    """MobileNet V1 1.0 for 224x224."""
    return MobileNetV1Classifier(num_classes, LayerStyle(eps=norm_eps, momentum=norm_momentum), normalisation)
