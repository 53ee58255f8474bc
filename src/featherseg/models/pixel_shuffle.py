"""Pixel Shuffle prediction: logits at twice the resolution, from a learned enlarging instead of a bilinear one.

Yang, Xue, Qi and Xin, "Improving Efficient Semantic Segmentation Networks by Enhancing Multi-scale Feature
Representation via Resolution Path Based Knowledge Distillation and Pixel Shuffle", ISVC 2021, Sec. 5: a 1x1 convolution
halves the channels C, a grouped one makes 2C of C/2, Pixel Shuffle lays these out as C/2 at twice the size, and the
head, a 3x3 and a 1x1 convolution, works there.

Design choices:
- the paper prints 50C parameters for the grouped convolution, without its kernel. 5x5 in C/2 groups has them: each
  channel makes its own four sub-pixels, a learned enlarging kernel a channel;
- batch norm and ReLU behind it are assumed, as behind every convolution of FasterSeg; the paper does not count them;
- it starts as bilinear enlarging by 2 (pixel centres, edges repeated), so that a training begins with the enlarging
  that the module replaces and no checkerboard;
- any segmentation network here may take it (``head="pixel_shuffle"`` in ``create_model``): its last layer, a 1x1
  convolution to the classes, is replaced by the whole module.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_cells import ConvNorm
from featherseg.models.norm import batch_norm_activation
from featherseg.models.output import InputSpec

KERNEL = 5
_NEAR, _FAR = 0.75, 0.25  # a sub-pixel's centre lies a quarter of a pixel off its own pixel's


def bilinear_kernels() -> Tensor:
    """The kernels ``[4, 5, 5]`` that give the four sub-pixels of bilinear enlarging by 2, in Pixel Shuffle's order."""
    centre = KERNEL // 2
    kernels = torch.zeros(4, KERNEL, KERNEL, device="cpu")
    for row in (0, 1):
        for column in (0, 1):
            for i, across in ((centre, _NEAR), (centre - 1 + 2 * row, _FAR)):
                for j, along in ((centre, _NEAR), (centre - 1 + 2 * column, _FAR)):
                    kernels[2 * row + column, i, j] = across * along
    return kernels


class PixelShuffleEnlarging(nn.Module):
    """Depthwise 5x5 to 4C channels, batch norm, ReLU, Pixel Shuffle: ``[B, C, H, W]`` to ``[B, C, 2H, 2W]``.

    ``start_bilinear`` sets the kernels so that, of a map without negative values, ``eval()`` gives the bilinear
    enlarging up to batch norm's eps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        edge = {"padding": KERNEL // 2, "padding_mode": "replicate"}
        self.conv = nn.Conv2d(channels, 4 * channels, KERNEL, groups=channels, bias=False, **edge)
        self.norm = nn.BatchNorm2d(4 * channels)
        self.start_bilinear()

    @torch.no_grad()
    def start_bilinear(self) -> None:
        kernels = bilinear_kernels().to(self.conv.weight.device)
        self.conv.weight.copy_(kernels.repeat(self.conv.in_channels, 1, 1)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(batch_norm_activation(self.norm, self.conv(x), "relu"), 2)


class PixelShuffleLogits(nn.Module):
    """The whole module in place of a 1x1 convolution to the classes: ``[B, C, H, W]`` to logits ``[B, K, 2H, 2W]``."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width = max(1, in_channels // 2)
        self.reduce = ConvNorm(in_channels, width, 1)
        self.enlarge = PixelShuffleEnlarging(width)
        self.fuse = ConvNorm(width, width, 3)
        self.logits = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.fuse(self.enlarge(self.reduce(x))))


def replace_logits(network: nn.Module, name: str) -> None:
    """Give ``network`` the Pixel Shuffle head in place of its last layer, and half its output stride; in place.

    The layer is the first of ``network.logits_prefixes``. Its successor keeps that prefix, so that "all_but_logits"
    carries the same tensors over as without it.

    Raises:
        FeathersegError: the network's logits are no 1x1 convolution's, or its stride cannot be halved; ``name`` says
            whose.
    """
    path = next(iter(getattr(network, "logits_prefixes", ())), "").rstrip(".")
    layer = network.get_submodule(path) if path else None
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1):
        raise FeathersegError(f"{name}: head=pixel_shuffle replaces a last 1x1 convolution, and there is none here.")
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    if spec.output_stride % 2:
        raise FeathersegError(
            f"{name}: head=pixel_shuffle halves the output stride, and {spec.output_stride} is odd. Leave it out."
        )
    network.set_submodule(path, PixelShuffleLogits(layer.in_channels, layer.out_channels))
    network.input_spec = replace(spec, output_stride=spec.output_stride // 2)  # type: ignore[assignment]
