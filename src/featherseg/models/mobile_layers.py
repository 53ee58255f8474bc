"""What the mobile backbones share: convolution with batch norm under two padding rules, and strides turned into rates.

Design choices:
- ``tf_same`` is TensorFlow's SAME padding: the total is split so that the odd pixel comes after. At stride 1 it is the
  symmetric padding of an odd kernel, at stride 2 it differs where the size is even, so that a convolution pads by
  itself and only strided layers ask for the rule;
- max pooling pads with minus infinity under both rules; ``ceil_mode`` does that where the odd pixel comes after, and
  no infinite constant enters an exported graph;
- convolutions stay ``nn.Conv2d`` and batch norms ``nn.BatchNorm2d``, so that counters, folding and quantisers see them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError, nearest
from featherseg.models.depthwise import DepthwiseConv2d
from featherseg.models.norm import Activation, batch_norm_activation
from featherseg.models.output import InputSpec

Padding = Literal["symmetric", "tf_same"]
IntPair = int | tuple[int, int]
OUTPUT_STRIDES = (8, 16, 32)
# Mean and standard deviation of pixels on the scale 0..1, RGB.
NORMALISATIONS = {
    "unit": ((0.5,) * 3, (0.5,) * 3),  # (2 / 255) x - 1
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "lite": ((127 / 255,) * 3, (128 / 255,) * 3),  # (x - 127) / 128
}


def check_choice(argument: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse a ``value`` of ``argument`` that is none of ``choices``, by type too: True is no 1."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        hint = nearest(value, choices) if isinstance(value, str) and isinstance(choices[0], str) else ""
        listed = ", ".join(map(str, choices[:-1])) + f" or {choices[-1]}"
        raise FeathersegError(f"{argument} is {value!r}{hint}; it must be {listed}.")


def input_spec(normalisation: str, output_stride: int) -> InputSpec:
    """The InputSpec of an RGB network by the name of its normalisation: a key of ``NORMALISATIONS``."""
    check_choice("normalisation", normalisation, tuple(NORMALISATIONS))
    mean, std = NORMALISATIONS[normalisation]
    return InputSpec("RGB", mean, std, min_size=1, output_stride=output_stride, align_corners=True)


def strides_and_rates(strides: Sequence[int], output_stride: int) -> list[tuple[int, int]]:
    """Each layer's stride and dilation so that the map ends at ``output_stride`` (Chen et al. 2017, Sec. 3.1).

    ``strides`` are the layers' own, the stem's first. Once the target is reached a stride becomes 1: that layer keeps
    the rate before it, the layers after it take the rate times the stride.

    >>> strides_and_rates([2, 2, 2, 1, 2, 1], output_stride=8)
    [(2, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 2)]
    """
    check_choice("output_stride", output_stride, OUTPUT_STRIDES)
    found, reached, rate = [], 1, 1
    for stride in strides:
        if reached < output_stride:
            found.append((stride, rate))
            reached *= stride
        else:
            found.append((1, rate))
            rate *= stride
    return found


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after, so that ``ceil(length / stride)`` outputs come.

    >>> same_padding(224, 3, 2), same_padding(225, 3, 2)
    ((0, 1), (1, 1))
    """
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class LayerStyle:
    """What a backbone's layers have in common.

    Attributes:
        padding: of layers with a stride.
        eps, momentum: of batch norm, momentum as PyTorch has it (1 - TensorFlow's decay).
        relu6: whether activations are cut at 6.
    """

    padding: Padding = "symmetric"
    eps: float = 1e-3
    momentum: float = 0.003
    relu6: bool = False

    def __post_init__(self) -> None:
        check_choice("padding", self.padding, ("symmetric", "tf_same"))
        for name, value, largest in (("eps", self.eps, 1.0), ("momentum", self.momentum, 1.0)):
            if type(value) not in (int, float) or not 0 < value <= largest:
                raise FeathersegError(f"the {name} of batch norm is {value!r}; it must be above 0 and at most 1.")


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, and ReLU or ReLU6 unless ``activate`` is false; sub-modules conv and bn."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: IntPair = 1,
        groups: int = 1,
        *,
        style: LayerStyle,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.pads_same = style.padding == "tf_same" and stride > 1
        rates = (dilation, dilation) if isinstance(dilation, int) else dilation
        padding = (0, 0) if self.pads_same else (kernel // 2 * rates[0], kernel // 2 * rates[1])
        convolution = DepthwiseConv2d if in_channels == out_channels == groups > 1 else nn.Conv2d
        self.conv = convolution(
            in_channels, out_channels, kernel, stride, padding=padding, dilation=rates, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=style.eps, momentum=style.momentum)
        self.activate = activate
        self.activation: Activation = "relu6" if style.relu6 else "relu"

    def forward(self, x: Tensor) -> Tensor:
        if self.pads_same:
            kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
            x = F.pad(x, (*same_padding(x.shape[3], kernel, stride), *same_padding(x.shape[2], kernel, stride)))
        x = self.conv(x)
        return batch_norm_activation(self.bn, x, self.activation) if self.activate else self.bn(x)


class HalvingMaxPool(nn.Module):
    """3x3 max pooling of stride 2, ``[B, C, H, W]`` to ``[B, C, ceil(H / 2), ceil(W / 2)]``."""

    def __init__(self, padding: Padding) -> None:
        super().__init__()
        self.pads_same = padding == "tf_same"

    def forward(self, x: Tensor) -> Tensor:
        if not self.pads_same:
            return F.max_pool2d(x, 3, 2, padding=1)
        before = same_padding(x.shape[2], 3, 2)[0], same_padding(x.shape[3], 3, 2)[0]
        return F.max_pool2d(x, 3, 2, padding=before, ceil_mode=True)
