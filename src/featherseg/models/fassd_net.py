"""FASSD-Net, its light versions, its ablations and the FC-HarDNet baselines, as one parametrised network.

Rosas-Arias et al., "Fast and Accurate Real-Time Semantic Segmentation with Dilated Asymmetric Convolutions", 2020;
FC-HarDNet-70: Chao et al., ICCV 2019. At 1024x2048 and 19 classes:

| name               | blocks | context | MDA | stem strides | decoder   | parameters | conv MACs |
|--------------------|--------|---------|-----|--------------|-----------|------------|-----------|
| fassd_net          | 4      | DAPF    | yes | 2 1 2 1      | HarDBlock | 2,845,351  | 44.684 G  |
| fassd_net_l1       | 4      | DAPF    | yes | 3 1 2 1      | HarDBlock | 2,845,351  | 19.767 G  |
| fassd_net_l2       | 4      | DAPF    | yes | 2 2 2 1      | 3x3, 64   | 2,289,454  | 8.561 G   |
| fassd_net_baseline | 4      | -       | no  | 2 1 2 1      | HarDBlock | 1,896,365  | 32.630 G  |
| fassd_net_aspp     | 4      | ASPP    | no  | 2 1 2 1      | HarDBlock | 3,849,069  | 36.506 G  |
| fassd_net_dapf     | 4      | DAPF    | no  | 2 1 2 1      | HarDBlock | 2,362,509  | 33.581 G  |
| fassd_net_mda      | 4      | -       | yes | 2 1 2 1      | HarDBlock | 2,379,207  | 43.733 G  |
| fassd_net_aspp_mda | 4      | ASPP    | yes | 2 1 2 1      | HarDBlock | 4,331,911  | 47.609 G  |
| fc_hardnet_70      | 5      | -       | no  | 2 1 2 1      | HarDBlock | 4,119,257  | 35.217 G  |
| fc_hardnet_70_l1   | 5      | -       | no  | 3 1 2 1      | HarDBlock | 4,119,257  | 15.543 G  |
| fc_hardnet_70_l2   | 5      | -       | no  | 2 2 2 1      | 3x3, 64   | 2,857,143  | 6.525 G   |

Where paper and published code disagree the code is followed: the two branches of MDA are added, not concatenated
(the paper's own counts match the sum), MDA is pre-activated with batch norm of eps 1e-3 and PReLU, and the skips are
the HarDBlocks' outputs of 48, 78, 160 and 214 channels.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.models.hardnet import BGR_MEAN, BGR_STD, HarDBlock, hardnet_trunk
from featherseg.models.layers import ConvLayer, PReLU, initialise_convolutions, resize
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.registry import register_model


class BNPReLU(nn.Module):
    """Batch norm with eps 1e-3, then PReLU with a slope per channel; only inside MDA."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)
        self.acti = PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.acti(self.bn(x))


class MDAConvolution(nn.Module):
    """Convolution without bias, then :class:`BNPReLU` unless ``activate`` is false."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
        activate: bool = True,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2 * dilation[0], kernel[1] // 2 * dilation[1])
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
        self.bn_prelu = BNPReLU(out_channels) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn_prelu(self.conv(x))


class MDA(nn.Module):
    """Multi-resolution dilated asymmetric module (Rosas-Arias et al. 2020, Sec. III-C).

    A 3x3 convolution to half the channels, a 3x3 branch plus a dilated asymmetric branch, a 1x1 convolution back and
    the residual: ``[B, C, H, W]`` to the same shape.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        middle = channels // 2
        self.bn_relu_1 = BNPReLU(channels)
        self.conv3x3 = MDAConvolution(channels, middle, (3, 3))
        self.parallel_conv3x3 = MDAConvolution(middle, middle, (3, 3))
        self.parallel_ddconv3x1 = MDAConvolution(middle, middle, (3, 1), (dilation, 1))
        self.parallel_ddconv1x3 = MDAConvolution(middle, middle, (1, 3), (1, dilation))
        self.bn_relu_2 = BNPReLU(middle)
        self.conv1x1 = MDAConvolution(middle, channels, (1, 1), activate=False)

    def forward(self, x: Tensor) -> Tensor:
        fused = self.conv3x3(self.bn_relu_1(x))
        details = self.parallel_conv3x3(fused)
        context = self.parallel_ddconv1x3(self.parallel_ddconv3x1(fused))
        return self.conv1x1(self.bn_relu_2(details + context)) + x


class DAPFBranch(nn.Module):
    """A 3x1 and a 1x3 convolution of one dilation, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, channels: int, dilation: int) -> None:
        super().__init__()
        self.atrous_conv3x1 = nn.Conv2d(
            in_channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1), bias=False
        )
        self.atrous_conv1x3 = nn.Conv2d(
            channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation), bias=False
        )
        self.bn3x1 = nn.BatchNorm2d(channels)
        self.bn1x3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn3x1(self.atrous_conv3x1(x)), inplace=True)
        return F.relu(self.bn1x3(self.atrous_conv1x3(x)), inplace=True)


class DAPF(nn.Module):
    """Dilated asymmetric pyramidal fusion (Rosas-Arias et al. 2020, Sec. III-B), ``[B, C, H, W]`` to the same shape.

    A 1x1 branch and three dilated asymmetric branches of C // alpha channels, joined and fused by a 1x1 convolution.
    """

    def __init__(self, channels: int, alpha: int = 2, dilations: tuple[int, int, int] = (12, 24, 36)) -> None:
        super().__init__()
        if type(alpha) is not int or not 1 <= alpha <= channels:
            raise FeathersegError(f"DAPF: alpha is {alpha!r}; it must be a whole number from 1 to {channels}.")
        width = channels // alpha
        self.conv1x1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1x1 = nn.BatchNorm2d(width)
        self.pyBranch2, self.pyBranch3, self.pyBranch4 = (DAPFBranch(channels, width, rate) for rate in dilations)
        self.conv1 = nn.Conv2d(4 * width, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        branches = [F.relu(self.bn1x1(self.conv1x1(x)), inplace=True)]
        branches += [branch(x) for branch in (self.pyBranch2, self.pyBranch3, self.pyBranch4)]
        return F.relu(self.bn1(self.conv1(torch.cat(branches, 1))), inplace=True)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling of DeepLabV3+, 256 channels a branch: the rows of Table I that DAPF is judged by.

    The paper names neither output width nor dropout; 224 output channels without dropout give its counts.
    """

    def __init__(self, channels: int, width: int = 256, dilations: tuple[int, int, int] = (12, 24, 36)) -> None:
        super().__init__()

        def branch(in_channels: int, out_channels: int, kernel: int, dilation: int) -> nn.Sequential:
            padding = dilation if kernel == 3 else 0
            convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))

        self.conv1x1 = branch(channels, width, 1, 1)
        self.atrous = nn.ModuleList(branch(channels, width, 3, rate) for rate in dilations)
        self.image_pool = branch(channels, width, 1, 1)
        self.fuse = branch(5 * width, channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.image_pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return self.fuse(torch.cat([self.conv1x1(x), *(branch(x) for branch in self.atrous), pooled], 1))


@dataclass(frozen=True)
class FASSDVariant:
    """What distinguishes one row of the paper's tables from another."""

    num_blocks: int = 4
    context: Literal["dapf", "aspp"] | None = "dapf"
    mda: bool = True
    stem_strides: tuple[int, int, int, int] = (2, 1, 2, 1)
    light_decoder: bool = False
    alpha: int = 2


DECODER_BLOCKS = ((24, 8), (18, 8), (16, 4), (10, 4))  # (k, L), deepest first; four encoder blocks start at the second
LIGHT_WIDTH = 64


class FASSDNet(nn.Module):
    """A U-shaped network on the HarDNet trunk; :class:`FASSDVariant` selects the row.

    ``forward``: float ``[B, 3, H, W]`` to :class:`SegmentationOutput` with logits at stride 4 (6 for L1, 8 for L2).
    """

    logits_prefixes = ("finalConv.",)

    def __init__(self, num_classes: int = 19, variant: FASSDVariant | None = None) -> None:
        super().__init__()
        variant = variant or FASSDVariant()
        self.variant = variant
        stride = variant.stem_strides[0] * variant.stem_strides[1] * variant.stem_strides[2]
        self.input_spec = InputSpec(
            color_order="BGR",
            mean=BGR_MEAN,
            std=BGR_STD,
            min_size=stride * 2 ** (variant.num_blocks - 1),
            output_stride=stride,
            align_corners=True,
        )
        self.base, features, channels = hardnet_trunk(variant.num_blocks, variant.stem_strides)
        self.skips = features[:-1]
        if variant.context == "dapf":
            self.DAPF = DAPF(channels, variant.alpha)
        elif variant.context == "aspp":
            self.ASPP = ASPP(channels)
        skip_channels = [block.out_channels for block in self.base if isinstance(block, HarDBlock)][:-1]
        self.denseBlocksUp = nn.ModuleList()
        self.conv1x1_up = nn.ModuleList()
        if variant.mda:
            self.mda = nn.ModuleList()
        steps = len(skip_channels)
        for step, (k, num_layers) in enumerate(DECODER_BLOCKS[-steps:]):
            joined = channels + skip_channels[steps - 1 - step]
            fused = joined // 2
            self.conv1x1_up.append(ConvLayer(joined, fused, 1))
            if variant.mda:
                self.mda.append(MDA(fused, 2 ** (steps - step)))
            if variant.light_decoder:
                self.denseBlocksUp.append(ConvLayer(fused, LIGHT_WIDTH, 3))
                channels = LIGHT_WIDTH
            else:
                block = HarDBlock(fused, k, num_layers)
                self.denseBlocksUp.append(block)
                channels = block.out_channels
        self.finalConv = nn.Conv2d(channels, num_classes, 1)
        # The published training script overrides every module's own initialisation.
        initialise_convolutions(self, nn.init.xavier_normal_)

    @property
    def distillation_paths(self) -> dict[str, str]:
        """Maps that a distillation may compare, see distillation/paths.py."""
        steps = range(len(self.denseBlocksUp))
        return {f"1/{self.input_spec.output_stride << up}": f"denseBlocksUp.{len(steps) - 1 - up}" for up in steps}

    def forward(self, images: Tensor) -> SegmentationOutput:
        x = self.input_spec.pad(images)
        skips = []
        for index, layer in enumerate(self.base):
            x = layer(x)
            if index in self.skips:
                skips.append(x)
        if self.variant.context == "dapf":
            x = self.DAPF(x)
        elif self.variant.context == "aspp":
            x = self.ASPP(x)
        for step, (fuse, block) in enumerate(zip(self.conv1x1_up, self.denseBlocksUp, strict=True)):
            skip = skips.pop()
            x = fuse(torch.cat([resize(x, skip.shape[-2:], align_corners=True), skip], 1))
            if self.variant.mda:
                x = self.mda[step](x)
            x = block(x)
        return SegmentationOutput(self.finalConv(x))


_L1, _L2 = (3, 1, 2, 1), (2, 2, 2, 1)
VARIANTS = {
    "fassd_net": FASSDVariant(),
    "fassd_net_l1": FASSDVariant(stem_strides=_L1),
    "fassd_net_l2": FASSDVariant(stem_strides=_L2, light_decoder=True),
    "fassd_net_baseline": FASSDVariant(context=None, mda=False),
    "fassd_net_aspp": FASSDVariant(context="aspp", mda=False),
    "fassd_net_dapf": FASSDVariant(mda=False),
    "fassd_net_mda": FASSDVariant(context=None),
    "fassd_net_aspp_mda": FASSDVariant(context="aspp"),
    "fc_hardnet_70": FASSDVariant(num_blocks=5, context=None, mda=False),
    "fc_hardnet_70_l1": FASSDVariant(num_blocks=5, context=None, mda=False, stem_strides=_L1),
    "fc_hardnet_70_l2": FASSDVariant(num_blocks=5, context=None, mda=False, stem_strides=_L2, light_decoder=True),
}


def _register(name: str, variant: FASSDVariant) -> None:
    def build(num_classes: int = 19) -> FASSDNet:
        return FASSDNet(num_classes, variant)

    def build_with_dapf(num_classes: int = 19, *, alpha: int = variant.alpha) -> FASSDNet:
        return FASSDNet(num_classes, replace(variant, alpha=alpha))

    register_model(name)(build_with_dapf if variant.context == "dapf" else build)


for _name, _variant in VARIANTS.items():
    _register(_name, _variant)
