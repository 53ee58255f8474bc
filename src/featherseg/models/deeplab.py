"""The mobile DeepLab networks: a light backbone at output stride 8, 16 or 32, a head, and one enlargement to full size.

Türkmen and Heikkilä, "An efficient solution for semantic segmentation: ShuffleNet V2 with atrous separable
convolutions", 2019, and the same heads on MobileNet V2, its baseline, and on EfficientNet-Lite0 and pyramid MobileNet,
our additions. Sixteen networks, ``{shufflenet_v2, mobilenet_v2, efficientnet_lite0, pyramid_mobilenet}_{basic, dpc,
aspp, deeplab_v3}``; 19 classes, 769x769:

| name                   | parameters | conv MACs |
|------------------------|------------|-----------|
| shufflenet_v2_basic    | 1,148,249  | 2.818 G   |
| shufflenet_v2_dpc      | 1,506,121  | 3.952 G   |
| mobilenet_v2_basic     | 2,113,043  | 6.062 G   |
| mobilenet_v2_dpc       | 2,506,195  | 7.192 G   |
| efficientnet_lite0_dpc | 3,653,331  | 9.956 G   |

Design choices:
- where paper and published code disagree the code is followed, but for ``dilation``, see shufflenet_v2.py;
- the trunk is ``base``, as in every network of the package, so that a classifier's weights start it;
- batch norm's published momentum (0.003 in the trunk, 0.0003 in the head) means averages over hundreds and thousands of
  steps: right for the published 60,000 and 120,000, far too slow for a short training, hence ``norm_momentum``;
- ``normalisation`` and ``backbone_eps`` follow the weights a training starts from: "unit" and 1e-3 of TensorFlow's
  lineage by default, "imagenet" and 1e-5 for PyTorch's, "lite" and 1e-3 for EfficientNet-Lite;
- ``decoder`` is beyond the paper, whose future work it is: it puts logits at stride 4;
- ``input_scale`` is beyond the paper too: small images are enlarged before the trunk, so that thin things survive it,
  at the square of its cost.
"""

from typing import Any

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models.deeplab_heads import HEADS, WIDTH, build_head
from featherseg.models.efficientnet_lite import GROUPS as EFFICIENTNET_LITE0_GROUPS
from featherseg.models.layers import initialise_convolutions, resize
from featherseg.models.mobile_layers import ConvBN, LayerStyle, Padding, input_spec
from featherseg.models.mobilenet_v2 import GROUPS as MOBILENET_V2_GROUPS
from featherseg.models.mobilenet_v2 import InvertedResidualTrunk
from featherseg.models.output import SegmentationOutput
from featherseg.models.pyramid_mobilenet import DEFAULT_RATES, ActivationName, PyramidTrunk, Reading
from featherseg.models.registry import register_model
from featherseg.models.shufflenet_v2 import Dilation, Routing, ShuffleNetV2Trunk

HEAD_EPS, HEAD_MOMENTUM = 1e-5, 0.0003
BACKBONE_EPS, BACKBONE_MOMENTUM = 1e-3, 0.003
SKIP_WIDTH, DECODER_WIDTH = 48, 64


class LightDecoder(nn.Module):
    """Brings the head's map to stride 4 and joins it with the backbone's map of that stride.

    The head's 256 channels become 64 before they are enlarged, which is what keeps it light; the skip becomes 48
    channels as in DeepLabV3+ (Chen et al. 2018), and one depthwise separable 3x3 convolution joins them.
    ``[B, 256, h, w]`` and ``[B, S, H/4, W/4]`` to ``[B, 64, H/4, W/4]``.
    """

    def __init__(self, skip_channels: int, style: LayerStyle) -> None:
        super().__init__()
        joined = DECODER_WIDTH + SKIP_WIDTH
        self.reduce = ConvBN(WIDTH, DECODER_WIDTH, style=style)
        self.skip = ConvBN(skip_channels, SKIP_WIDTH, style=style)
        self.depthwise = ConvBN(joined, joined, 3, groups=joined, style=style)
        self.pointwise = ConvBN(joined, DECODER_WIDTH, style=style)
        initialise_convolutions(self, nn.init.xavier_uniform_)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        enlarged = resize(self.reduce(x), skip.shape[-2:], align_corners=True)
        return self.pointwise(self.depthwise(torch.cat([enlarged, self.skip(skip)], 1)))


class DeepLab(nn.Module):
    """A trunk, a head, an optional decoder and the 1x1 convolution to the classes, the only one with a bias.

    ``forward``: float ``[B, 3, H, W]`` to :class:`SegmentationOutput` with logits at ``output_stride``, at stride 4
    with the decoder.
    """

    logits_prefixes = ("logits.",)

    def __init__(
        self,
        base: ShuffleNetV2Trunk | InvertedResidualTrunk,
        head: str,
        num_classes: int,
        *,
        output_stride: int,
        normalisation: str,
        norm_momentum: float | None,
        dropout: float,
        decoder: bool,
        input_scale: float,
    ) -> None:
        super().__init__()
        if type(input_scale) not in (int, float) or not 1 <= input_scale <= 4:
            raise FeathersegError(f"input_scale is {input_scale!r}; it must be a number from 1 to 4.")
        if type(dropout) not in (int, float) or not 0 <= dropout < 1:
            raise FeathersegError(f"dropout is {dropout!r}; it must be at least 0 and below 1.")
        if not isinstance(decoder, bool):
            raise FeathersegError(f"decoder is {decoder!r}; it must be true or false.")
        self.output_stride, self.input_scale = output_stride, input_scale
        self.input_spec = input_spec(normalisation, max(1, round((4 if decoder else output_stride) / input_scale)))
        style = LayerStyle(eps=HEAD_EPS, momentum=HEAD_MOMENTUM if norm_momentum is None else norm_momentum)
        initialise_convolutions(base, nn.init.xavier_uniform_)
        self.base = base
        self.head = build_head(head, base.out_channels, output_stride, dropout, style)
        self.decoder = LightDecoder(base.skip_channels, style) if decoder else None
        self.logits = nn.Conv2d(DECODER_WIDTH if decoder else WIDTH, num_classes, 1)
        nn.init.trunc_normal_(self.logits.weight, std=0.01, a=-0.02, b=0.02)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    @property
    def distillation_paths(self) -> dict[str, str]:
        """Maps that a distillation may compare, see distillation/paths.py."""
        finest = {} if self.decoder is None else {"1/4": "decoder"}
        return finest | {f"1/{self.output_stride}": "head"}

    def forward(self, images: Tensor) -> SegmentationOutput:
        images = self.input_spec.pad(images)
        if self.input_scale != 1:
            size = [_rounded(side * self.input_scale) for side in images.shape[-2:]]
            images = resize(images, size, align_corners=True)
        skip, x = self.base(images)
        x = self.head(x)
        if self.decoder is not None:
            x = self.decoder(x, skip)
        return SegmentationOutput(self.logits(x))


def _rounded(side: float | Tensor) -> int | Tensor:
    """``round``; while a graph is traced a side is a tensor."""
    return torch.round(side).long() if isinstance(side, Tensor) else round(side)


def _backbone_style(padding: Padding, eps: float, momentum: float | None, relu6: bool) -> LayerStyle:
    return LayerStyle(padding, eps, BACKBONE_MOMENTUM if momentum is None else momentum, relu6)


def _register(head: str) -> None:
    """The four networks of one head.

    Arguments of all: ``output_stride`` 8, 16 or 32; ``padding`` "symmetric" or "tf_same"; ``normalisation`` "unit",
    "imagenet" or "lite"; ``backbone_eps`` of the trunk's batch norm; ``norm_momentum`` of every batch norm, None for
    the published ones; ``dropout``; ``decoder``; ``input_scale`` from 1 to 4. Of ShuffleNet alone: ``dilation``,
    ``routing``, ``stage2_mid_channels``. Of pyramid MobileNet alone, which pads symmetrically: ``rates``, ``reading``,
    ``widths``, ``activation``.
    """

    @register_model(f"shufflenet_v2_{head}")
    def shufflenet_v2(
        num_classes: int = 19,
        *,
        output_stride: int = 16,
        dilation: Dilation = "paper",
        routing: Routing = "tf",
        padding: Padding = "symmetric",
        stage2_mid_channels: int = 24,
        normalisation: str = "unit",
        backbone_eps: float = BACKBONE_EPS,
        norm_momentum: float | None = None,
        dropout: float = 0.1,
        decoder: bool = False,
        input_scale: float = 1.0,
    ) -> DeepLab:
        style = _backbone_style(padding, backbone_eps, norm_momentum, relu6=False)
        return DeepLab(
            ShuffleNetV2Trunk(style, output_stride, dilation, routing, stage2_mid_channels),
            head,
            num_classes,
            output_stride=output_stride,
            normalisation=normalisation,
            norm_momentum=norm_momentum,
            dropout=dropout,
            decoder=decoder,
            input_scale=input_scale,
        )

    @register_model(f"mobilenet_v2_{head}")
    def mobilenet_v2(
        num_classes: int = 19,
        *,
        output_stride: int = 16,
        padding: Padding = "symmetric",
        normalisation: str = "unit",
        backbone_eps: float = BACKBONE_EPS,
        norm_momentum: float | None = None,
        dropout: float = 0.1,
        decoder: bool = False,
        input_scale: float = 1.0,
    ) -> DeepLab:
        style = _backbone_style(padding, backbone_eps, norm_momentum, relu6=True)
        return DeepLab(
            InvertedResidualTrunk(MOBILENET_V2_GROUPS, style, output_stride),
            head,
            num_classes,
            output_stride=output_stride,
            normalisation=normalisation,
            norm_momentum=norm_momentum,
            dropout=dropout,
            decoder=decoder,
            input_scale=input_scale,
        )

    @register_model(f"efficientnet_lite0_{head}")
    def efficientnet_lite0(
        num_classes: int = 19,
        *,
        output_stride: int = 16,
        padding: Padding = "tf_same",
        normalisation: str = "lite",
        backbone_eps: float = BACKBONE_EPS,
        norm_momentum: float | None = 0.01,
        dropout: float = 0.1,
        decoder: bool = False,
        input_scale: float = 1.0,
    ) -> DeepLab:
        style = _backbone_style(padding, backbone_eps, norm_momentum, relu6=True)
        return DeepLab(
            InvertedResidualTrunk(EFFICIENTNET_LITE0_GROUPS, style, output_stride),
            head,
            num_classes,
            output_stride=output_stride,
            normalisation=normalisation,
            norm_momentum=norm_momentum,
            dropout=dropout,
            decoder=decoder,
            input_scale=input_scale,
        )

    @register_model(f"pyramid_mobilenet_{head}")
    def pyramid_mobilenet(
        num_classes: int = 19,
        *,
        output_stride: int = 16,
        rates: Any = DEFAULT_RATES,
        reading: Reading = "split",
        widths: str = "condensed",
        activation: ActivationName = "prelu",
        normalisation: str = "imagenet",
        backbone_eps: float = 1e-5,
        norm_momentum: float | None = None,
        dropout: float = 0.1,
        decoder: bool = False,
        input_scale: float = 1.0,
    ) -> DeepLab:
        style = _backbone_style("symmetric", backbone_eps, norm_momentum, relu6=True)
        readings: dict[str, Any] = {"rates": rates, "reading": reading, "widths": widths, "activation": activation}
        return DeepLab(
            PyramidTrunk(style, output_stride, **readings),
            head,
            num_classes,
            output_stride=output_stride,
            normalisation=normalisation,
            norm_momentum=norm_momentum,
            dropout=dropout,
            decoder=decoder,
            input_scale=input_scale,
        )


for _head in HEADS:
    _register(_head)
