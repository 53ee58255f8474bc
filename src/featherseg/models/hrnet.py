"""HRNet: branches at 1/4, 1/8, 1/16 and 1/32 that run side by side and exchange their maps again and again.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", 2019 (HRNetV2), and with object
context: Yuan et al., "Object-Contextual Representations for Semantic Segmentation", ECCV 2020. With 19 classes, MACs of
convolutions at 1024x2048:

| name               | layer1 of bottlenecks | branches     | modules a stage | blocks | parameters | conv MACs |
|--------------------|-----------------------|--------------|-----------------|--------|------------|-----------|
| hrnet_w18_small_v1 | 1 of 32               | 16 32 64 128 | 1 1 1           | 2      | 1,540,819  | 33.39 G   |
| hrnet_w18_small_v2 | 2 of 64               | 18 36 72 144 | 1 3 2           | 2      | 3,939,579  | 76.86 G   |
| hrnet_w48          | 4 of 64               | 48 96 192 384 | 1 4 3          | 4      | 65,859,379 | 747.5 G   |
| hrnet_w48_ocr      | 4 of 64               | 48 96 192 384 | 1 4 3          | 4      | 70,372,678 | 1295 G    |

The published README divides MACs by 1024^3 (696.2 for W48).

Design choices:
- "W18-small-v1" has a width of 16, in the published code too;
- ``align_corners`` is that of the published branch that weights come from: false on master and in NVIDIA's code, true
  on the branch HRNet-OCR. It holds for the enlarging inside and of the logits; a wrong one moves logits visibly;
- fresh kernels are He's normal ones. The published 0.001 for all of them lets batch norm find the scale, and until then
  gives maps without a pattern; it counted on ImageNet's weights;
- modules are named as in the published code, so that its keys load (import_hrnet.py); ``width`` makes the branches
  narrower or wider, layer1 stays.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.models.layers import initialise_convolutions, resize
from featherseg.models.norm import batch_norm_activation
from featherseg.models.ocr import ObjectContextHead
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.registry import register_model

STEM, EXPANSION = 64, 4
LARGEST_WIDTH = 1024
SMALLEST = 32  # the stride of the last branch


@dataclass(frozen=True)
class HRNetVariant:
    """What distinguishes the published networks.

    ``bottlenecks`` (how many, how wide) make up layer1; ``width`` is the first branch's, each further one has twice the
    one before; ``modules`` are those of stages 2, 3 and 4; ``blocks`` stand in every branch of a module.
    """

    bottlenecks: tuple[int, int]
    width: int
    modules: tuple[int, int, int]
    blocks: int


W18_SMALL_V1 = HRNetVariant((1, 32), 16, (1, 1, 1), 2)
W18_SMALL_V2 = HRNetVariant((2, 64), 18, (1, 3, 2), 2)
W48 = HRNetVariant((4, 64), 48, (1, 4, 3), 4)


class ConvNormReLU(nn.Sequential):
    """A 3x3 convolution without bias, batch norm and, unless ``relu`` is false, a ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        momentum: float,
        kernel: int = 3,
        relu: bool = True,
    ) -> None:
        convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(out_channels, momentum=momentum))
        self.relu = relu

    # An attribute named relu is no part of the sequence, so that the published indices hold.
    def forward(self, input: Tensor) -> Tensor:
        convolution, norm = self[0], self[1]
        x = convolution(input)
        return batch_norm_activation(norm, x, "relu") if self.relu else norm(x)  # type: ignore[arg-type]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut: ``[B, in, H, W]`` to ``[B, 4 * width, H, W]``."""

    def __init__(self, in_channels: int, width: int, momentum: float) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.conv1, self.bn1 = nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width, momentum=momentum)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, momentum=momentum)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, momentum=momentum)
        self.downsample: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.downsample = ConvNormReLU(in_channels, out_channels, momentum=momentum, kernel=1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = batch_norm_activation(self.bn1, self.conv1(x), "relu")
        y = batch_norm_activation(self.bn2, self.conv2(y), "relu")
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, ``[B, C, H, W]`` to the same shape."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels, momentum=momentum)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        y = batch_norm_activation(self.bn1, self.conv1(x), "relu")
        return F.relu(self.bn2(self.conv2(y)) + x)


def _fuse_layer(widths: list[int], to: int, source: int, momentum: float) -> nn.Module:
    """What brings the map of one branch to another's shape, but for the enlarging."""
    if source == to:
        return nn.Identity()
    if source > to:
        return ConvNormReLU(widths[source], widths[to], momentum=momentum, kernel=1, relu=False)
    steps = to - source
    return nn.Sequential(
        *(
            ConvNormReLU(widths[source], widths[to if last else source], 2, momentum=momentum, relu=not last)
            for last in (step == steps - 1 for step in range(steps))
        )
    )


class HighResolutionModule(nn.Module):
    """Blocks on every branch, then every branch's sum with all others: a list of maps to maps of the same shapes."""

    def __init__(self, widths: list[int], blocks: int, momentum: float, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, momentum) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_layer(widths, to, source, momentum) for source in range(len(widths)))
            for to in range(len(widths))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for to, layers in enumerate(self.fuse_layers):
            total: Tensor | None = None
            for source, layer in enumerate(layers):  # type: ignore[arg-type]
                x = layer(maps[source])
                if source > to:
                    x = resize(x, maps[to].shape[-2:], align_corners=self.align_corners)
                total = x if total is None else total + x
            assert total is not None
            fused.append(F.relu(total))
        return fused


class HRNet(nn.Module):
    """The trunk with the published head on all branches, or with object context.

    ``forward``: float ``[B, 3, H, W]`` to :class:`SegmentationOutput` with logits at stride 4; with object context, in
    training, one auxiliary of the same shape: the soft regions' logits.
    """

    encoder_prefixes = ("conv1.", "bn1.", "conv2.", "bn2.", "layer1.", "transition", "stage")

    def __init__(
        self,
        variant: HRNetVariant,
        num_classes: int = 19,
        *,
        align_corners: bool = False,
        norm_momentum: float = 0.01,
        ocr_width: int | None = None,
    ) -> None:
        super().__init__()
        self.input_spec = InputSpec(min_size=SMALLEST, output_stride=4, align_corners=align_corners)
        self.align_corners = align_corners
        momentum, widths = norm_momentum, [variant.width * 2**branch for branch in range(4)]
        self.conv1, self.conv2 = (nn.Conv2d(channels, STEM, 3, 2, 1, bias=False) for channels in (3, STEM))
        self.bn1, self.bn2 = (nn.BatchNorm2d(STEM, momentum=momentum) for _ in range(2))
        count, width = variant.bottlenecks
        entry = EXPANSION * width
        self.layer1 = nn.Sequential(*(Bottleneck(entry if i else STEM, width, momentum) for i in range(count)))
        before = [entry]
        for stage, modules in zip((2, 3, 4), variant.modules, strict=True):
            now = widths[:stage]
            self.add_module(f"transition{stage - 1}", _transition(before, now, momentum))
            module = (HighResolutionModule(now, variant.blocks, momentum, align_corners) for _ in range(modules))
            self.add_module(f"stage{stage}", nn.Sequential(*module))
            before = now
        joined = sum(widths)
        if ocr_width is None:
            self.logits_prefixes: tuple[str, ...] = ("last_layer.3.",)
            self.last_layer = nn.Sequential(
                nn.Conv2d(joined, joined, 1),
                nn.BatchNorm2d(joined, momentum=momentum),
                nn.ReLU(inplace=True),
                nn.Conv2d(joined, num_classes, 1),
            )
        else:
            self.logits_prefixes = ("ocr.cls_head.", "ocr.aux_head.3.")
            self.ocr = ObjectContextHead(joined, num_classes, ocr_width, momentum)
        initialise_convolutions(self, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"))

    @property
    def training_heads(self) -> tuple[str, ...]:
        """Which outputs of :class:`SegmentationOutput` training alone has."""
        return ("auxiliary",) if "ocr" in self._modules else ()

    @property
    def distillation_paths(self) -> dict[str, str]:
        """Maps that a distillation may compare, see distillation/paths.py."""
        return {"1/4": "ocr.input" if "ocr" in self._modules else "last_layer.input"}

    def features(self, images: Tensor) -> Tensor:
        """All branches at 1/4, joined: float ``[B, C, H/4, W/4]``."""
        x = batch_norm_activation(self.bn1, self.conv1(self.input_spec.pad(images)), "relu")
        x = batch_norm_activation(self.bn2, self.conv2(x), "relu")
        maps = [self.layer1(x)]
        for stage in (2, 3, 4):
            layers = list(self.get_submodule(f"transition{stage - 1}"))  # type: ignore[call-overload]
            maps = [layer(maps[min(i, len(maps) - 1)]) for i, layer in enumerate(layers)]
            maps = self.get_submodule(f"stage{stage}")(maps)
        size = maps[0].shape[-2:]
        return torch.cat([maps[0], *(resize(x, size, align_corners=self.align_corners) for x in maps[1:])], 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        features = self.features(images)
        if "ocr" not in self._modules:
            return SegmentationOutput(self.last_layer(features))
        logits, regions = self.ocr(features)
        return SegmentationOutput(logits, (regions,) if self.training else None)


def _transition(before: list[int], now: list[int], momentum: float) -> nn.ModuleList:
    """Keeps the branches there are, in their new widths, and makes one more of the last."""
    layers: list[nn.Module] = [
        nn.Identity() if old == new else ConvNormReLU(old, new, momentum=momentum)
        for old, new in zip(before, now, strict=False)
    ]
    return nn.ModuleList([*layers, nn.Sequential(ConvNormReLU(before[-1], now[-1], 2, momentum=momentum))])


def _build(
    name: str,
    variant: HRNetVariant,
    num_classes: int,
    width: int,
    align_corners: bool,
    norm_momentum: float,
    ocr_width: int | None = None,
) -> HRNet:
    for argument, value in (("width", width), ("ocr_width", ocr_width or 2)):
        if type(value) is not int or not 1 <= value <= LARGEST_WIDTH:
            raise FeathersegError(
                f"{name}: {argument} is {value!r}; it must be a whole number from 1 to {LARGEST_WIDTH}."
            )
    if not isinstance(align_corners, bool):
        raise FeathersegError(f"{name}: align_corners is {align_corners!r}; it must be true or false.")
    if type(norm_momentum) not in (int, float) or not 0 < norm_momentum <= 1:
        raise FeathersegError(f"{name}: norm_momentum is {norm_momentum!r}; it must be above 0 and at most 1.")
    narrowed = HRNetVariant(variant.bottlenecks, width, variant.modules, variant.blocks)
    return HRNet(narrowed, num_classes, align_corners=align_corners, norm_momentum=norm_momentum, ocr_width=ocr_width)


def _register(name: str, variant: HRNetVariant) -> None:
    """A network with the plain head.

    Arguments: ``width`` of the first branch; ``align_corners`` of every enlarging; ``norm_momentum`` of batch norm.
    """

    @register_model(name)
    def build(
        num_classes: int = 19,
        *,
        width: int = variant.width,
        align_corners: bool = False,
        norm_momentum: float = 0.01,
    ) -> HRNet:
        return _build(name, variant, num_classes, width, align_corners, norm_momentum)


for _name, _variant in (
    ("hrnet_w18_small_v1", W18_SMALL_V1),
    ("hrnet_w18_small_v2", W18_SMALL_V2),
    ("hrnet_w48", W48),
):
    _register(_name, _variant)


@register_model("hrnet_w48_ocr")
def hrnet_w48_ocr(
    num_classes: int = 19,
    *,
    width: int = W48.width,
    align_corners: bool = True,
    norm_momentum: float = 0.1,
    ocr_width: int = 512,
) -> HRNet:
    """HRNet-W48 with object context.

    Args:
        num_classes: channels of the logits.
        width: of the first branch.
        align_corners: of every enlarging; true as on the published branch HRNet-OCR, false for NVIDIA's weights.
        norm_momentum: of every batch norm.
        ocr_width: channels of the object context; its attention has half of them.
    """
    if type(ocr_width) is not int or ocr_width < 2:
        raise FeathersegError(f"hrnet_w48_ocr: ocr_width is {ocr_width!r}; it must be a whole number of at least 2.")
    return _build("hrnet_w48_ocr", W48, num_classes, width, align_corners, norm_momentum, ocr_width)
