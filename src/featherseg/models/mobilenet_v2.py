"""MobileNet V2 1.0: the trunk of the mobile DeepLab networks at output stride 8, 16 or 32, and the classifier.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

| blocks | expansion | out | stride, rates (first / rest) at output stride |
|        |           |     | 32         | 16         | 8                   |
|--------|-----------|-----|------------|------------|---------------------|
| stem   | -         | 32  | 2          | 2          | 2                   |
| 0      | 1         | 16  | 1, 1       | 1, 1       | 1, 1                |
| 1-2    | 6         | 24  | 2, 1 / 1   | 2, 1 / 1   | 2, 1 / 1            |
| 3-5    | 6         | 32  | 2, 1 / 1   | 2, 1 / 1   | 2, 1 / 1            |
| 6-9    | 6         | 64  | 2, 1 / 1   | 2, 1 / 1   | 1, 1 / 2            |
| 10-12  | 6         | 96  | 1, 1 / 1   | 1, 1 / 1   | 1, 2 / 2            |
| 13-15  | 6         | 160 | 2, 1 / 1   | 1, 1 / 2   | 1, 2 / 4            |
| 16     | 6         | 320 | 1, 1       | 1, 2       | 1, 4                |

Design choices:
- the trunk ends at the linear bottleneck of 320 channels; the 1280 channels after it belong to the classifier;
- a block whose stride became 1 has no residual, since its width changes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.models.layers import initialise_convolutions
from featherseg.models.mobile_layers import ConvBN, LayerStyle, Padding, input_spec, strides_and_rates
from featherseg.models.registry import register_model


@dataclass(frozen=True)
class BlockGroup:
    """Inverted residual blocks of one width; the first has the stride."""

    blocks: int
    out_channels: int
    stride: int
    kernel: int = 3
    expansion: int = 6


GROUPS = (
    BlockGroup(1, 16, 1, expansion=1),
    BlockGroup(2, 24, 2),
    BlockGroup(3, 32, 2),
    BlockGroup(4, 64, 2),
    BlockGroup(3, 96, 1),
    BlockGroup(3, 160, 2),
    BlockGroup(1, 320, 1),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


class InvertedResidual(nn.Module):
    """1x1 expansion (none at factor 1), depthwise convolution, linear 1x1 projection; a residual where shapes agree."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        kernel: int,
        stride: int,
        rate: int,
        style: LayerStyle,
    ) -> None:
        super().__init__()
        middle = in_channels * expansion
        self.expand = ConvBN(in_channels, middle, style=style) if expansion > 1 else nn.Identity()
        self.depthwise = ConvBN(middle, middle, kernel, stride, rate, middle, style=style)
        self.project = ConvBN(middle, out_channels, style=style, activate=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class InvertedResidualTrunk(nn.Module):
    """A strided 3x3 convolution to 32 channels and groups of inverted residuals.

    ``forward``: float ``[B, 3, H, W]`` to the last map of stride 4, 24 channels, and the last map of all.

    Args:
        groups: the blocks.
        style: of their layers.
        output_stride: 8, 16 or 32.
        build: makes other blocks in their place, of (number, channels in, group, stride, rate).

    Raises:
        FeathersegError: ``output_stride`` is none of 8, 16 and 32.
    """

    def __init__(
        self,
        groups: tuple[BlockGroup, ...],
        style: LayerStyle,
        output_stride: int = 32,
        build: Callable[[int, int, BlockGroup, int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        listed = [(group, group.stride if first else 1) for group in groups for first in _firsts(group.blocks)]
        layers = strides_and_rates([2, *(stride for _, stride in listed)], output_stride)[1:]
        self.stem = ConvBN(3, STEM_CHANNELS, 3, 2, style=style)
        self.blocks = nn.ModuleList()
        channels, reached = STEM_CHANNELS, 2
        for (group, _), (stride, rate) in zip(listed, layers, strict=True):
            reached *= stride
            if reached <= 4:
                self.skip, self.skip_channels = len(self.blocks), group.out_channels
            if build is None:
                block = InvertedResidual(
                    channels, group.out_channels, group.expansion, group.kernel, stride, rate, style
                )
            else:
                block = build(len(self.blocks), channels, group, stride, rate)
            self.blocks.append(block)
            channels = group.out_channels
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = skip = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.skip:
                skip = x
        return skip, x


def _firsts(blocks: int) -> list[bool]:
    return [True] + [False] * (blocks - 1)


class InvertedResidualClassifier(nn.Module):
    """The trunk ``base``, a 1x1 convolution to 1280 channels, global average pooling, dropout of 0.2, a linear layer.

    ``forward``: float ``[B, 3, H, W]`` to logits ``[B, num_classes]``.
    """

    logits_prefixes = ("fc.",)

    def __init__(self, num_classes: int, base: InvertedResidualTrunk, style: LayerStyle, normalisation: str) -> None:
        super().__init__()
        self.base = base
        self.head = ConvBN(base.out_channels, HEAD_CHANNELS, style=style)
        self.fc = nn.Linear(HEAD_CHANNELS, num_classes)
        self.input_spec = input_spec(normalisation, 32)
        initialise_convolutions(self, lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"))

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.head(self.base(images)[1]).mean((2, 3))
        return self.fc(F.dropout(pooled, 0.2, self.training))


@register_model("mobilenet_v2", task="classification")
def mobilenet_v2(
    num_classes: int = 1000,
    *,
    padding: Padding = "symmetric",
    normalisation: str = "imagenet",
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
) -> InvertedResidualClassifier:
    """MobileNet V2 1.0 as torchvision has it."""
    style = LayerStyle(padding, norm_eps, norm_momentum, relu6=True)
    return InvertedResidualClassifier(num_classes, InvertedResidualTrunk(GROUPS, style), style, normalisation)
