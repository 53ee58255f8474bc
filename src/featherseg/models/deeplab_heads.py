"""The encoder heads of the mobile DeepLab networks: Basic, DPC, ASPP and the plain DeepLabV3 head.

| head       | branches, joined in this order                                           | dropout            |
|------------|--------------------------------------------------------------------------|--------------------|
| basic      | image pooling, 1x1                                                       | after projection   |
| dpc        | five depthwise separable ones, three of them fed by the first            | before projection  |
| aspp       | image pooling, 1x1, three depthwise separable ones of rates 6, 12, 18    | after projection   |
| deeplab_v3 | image pooling, 1x1, three full 3x3 convolutions of rates 6, 12, 18       | after projection   |

Sources: Türkmen and Heikkilä 2019, Fig. 4; DPC: Chen et al., NeurIPS 2018, the cell found on MobileNet V2 features;
deeplab_v3: Chen et al. 2017, Sec. 3.3; aspp: the same with the separable convolutions of DeepLabV3+ (Chen et al. 2018),
which is what "atrous separable convolutions" stands for in the paper's title.

Design choices:
- every branch and the projection have 256 channels, batch norm of eps 1e-5 and ReLU; between a depthwise convolution
  and its 1x1 convolution there are batch norm and ReLU as well, unlike in ShuffleNet's units;
- rates are those of output stride 16: they double at 8 and halve at 32, rounded up from a half and never below 1;
- sub-modules carry the published code's names (image_pooling, aspp0, concat_projection);
- image pooling is over the whole map at every size. The published code pools over the map of the training crop, which
  is the same for an image of the crop's size.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from featherseg.models.mobile_layers import ConvBN, LayerStyle

HEADS = ("basic", "dpc", "aspp", "deeplab_v3")
WIDTH = 256
PYRAMID_RATES = (6, 12, 18)
# (the branch that feeds it, None for the backbone; rates of height and width)
DPC_BRANCHES: tuple[tuple[int | None, tuple[int, int]], ...] = (
    (None, (1, 6)),
    (0, (18, 15)),
    (1, (6, 3)),
    (0, (1, 1)),
    (0, (6, 21)),
)


def scaled_rate(rate: int, output_stride: int) -> int:
    """A rate of output stride 16 at another one.

    >>> [scaled_rate(rate, 8) for rate in (1, 21)], [scaled_rate(rate, 32) for rate in (1, 3, 6, 21)]
    ([2, 42], [1, 2, 3, 11])
    """
    return max(1, (16 * rate + output_stride // 2) // output_stride)


def separable(in_channels: int, out_channels: int, rates: tuple[int, int], style: LayerStyle) -> nn.Sequential:
    """A depthwise 3x3 convolution with (height, width) ``rates`` and a 1x1 convolution, both with batch norm and ReLU.

    Both start from truncated normal values, of deviation 0.33 and 0.06.
    """
    depthwise = ConvBN(in_channels, in_channels, 3, 1, rates, in_channels, style=style)
    pointwise = ConvBN(in_channels, out_channels, style=style)
    for layer, deviation in ((depthwise, 0.33), (pointwise, 0.06)):
        nn.init.trunc_normal_(layer.conv.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))


def _xavier(layer: ConvBN) -> ConvBN:
    nn.init.xavier_uniform_(layer.conv.weight)
    return layer


class PyramidHead(nn.Module):
    """Image pooling, a 1x1 branch and ``atrous`` branches, joined and projected: Basic, ASPP and DeepLabV3.

    ``[B, C, h, w]`` to ``[B, 256, h, w]``.
    """

    def __init__(self, in_channels: int, atrous: list[nn.Module], dropout: float, style: LayerStyle) -> None:
        super().__init__()
        self.image_pooling = _xavier(ConvBN(in_channels, WIDTH, style=style))
        self.aspp0 = _xavier(ConvBN(in_channels, WIDTH, style=style))
        self.atrous = nn.ModuleList(atrous)
        self.concat_projection = _xavier(ConvBN((2 + len(atrous)) * WIDTH, WIDTH, style=style))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        # One pixel enlarged bilinearly is that pixel everywhere.
        pooled = self.image_pooling(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        joined = torch.cat([pooled, self.aspp0(x), *(branch(x) for branch in self.atrous)], 1)
        return self.dropout(self.concat_projection(joined))


class DPCHead(nn.Module):
    """The dense prediction cell: ``[B, C, h, w]`` to ``[B, 256, h, w]``; every branch's output is joined."""

    def __init__(self, in_channels: int, dropout: float, output_stride: int, style: LayerStyle) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            separable(
                in_channels if source is None else WIDTH,
                WIDTH,
                (scaled_rate(rates[0], output_stride), scaled_rate(rates[1], output_stride)),
                style,
            )
            for source, rates in DPC_BRANCHES
        )
        self.concat_projection = _xavier(ConvBN(len(DPC_BRANCHES) * WIDTH, WIDTH, style=style))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for branch, (source, _) in zip(self.branches, DPC_BRANCHES, strict=True):
            outputs.append(branch(x if source is None else outputs[source]))
        return self.concat_projection(self.dropout(torch.cat(outputs, 1)))


def build_head(head: str, in_channels: int, output_stride: int, dropout: float, style: LayerStyle) -> nn.Module:
    """The head called ``head``, one of ``HEADS``, on a map of ``output_stride``."""
    if head == "dpc":
        return DPCHead(in_channels, dropout, output_stride, style)
    rates = () if head == "basic" else tuple(scaled_rate(rate, output_stride) for rate in PYRAMID_RATES)
    atrous: list[nn.Module] = [
        _xavier(ConvBN(in_channels, WIDTH, 3, 1, rate, style=style))
        if head == "deeplab_v3"
        else separable(in_channels, WIDTH, (rate, rate), style)
        for rate in rates
    ]
    return PyramidHead(in_channels, atrous, dropout, style)
