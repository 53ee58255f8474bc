"""DRBANet: a high- and a low-resolution branch of inverted bottlenecks, with a boundary head that trains alone.

Wang et al., "DRBANet: A Lightweight Dual-Resolution Network for Semantic Segmentation with Boundary Auxiliary". The
authors published no code; docs/papers/drbanet.md says what is read off which source. At 1024x2048 and 19 classes:

| layers | high-resolution branch        | low-resolution branch         | parameters       | conv MACs |
|--------|-------------------------------|-------------------------------|------------------|-----------|
| 1      | 3x3, stride 2, 32             |                               | 928              | 0.453 G   |
| 2-3    | EIBM stride 2, EIBM, 32       |                               | 7,200            | 1.262 G   |
| 4-5    | EIBM stride 2, EIBM, 64       |                               | 20,192           | 0.823 G   |
| 6-7    | EIBM, EIBM, 64                | EIBM stride 2, EIBM, 128      | 19,712 + 73,152  | 1.393 G   |
| 8      | BFM                           | BFM                           | 82,304           | 0.671 G   |
| 9-10   | EIBM, EIBM, 64                | EIBM stride 2, EIBM, 256      | 19,712 + 277,376 | 1.371 G   |
| 11     | BFM                           | BFM                           | 385,920          | 1.242 G   |
| 12     | EIBM, 128                     | EIBM stride 2, 512            | 36,352 + 541,440 | 1.625 G   |
| 13     |                               | ELPPM, 128, enlarged to 1/8   | 549,120          | 0.156 G   |
| fusion | layer 12 + ELPPM + 1x1 of layer 5                             | 8,448            | 0.268 G   |
| head   | 3x3 to 64, 1x1 to the classes |                               | 75,091           | 2.456 G   |
| in training alone | boundary head on layer 5 | auxiliary head on layer 11 | 37,057 + 148,819 |         |
| all    |                               |                    | 2,282,823 (2,096,947 deployed) | 11.721 G  |

Design choices:
- the last block of a stage gives its sum before the ReLU, and whoever takes it applies one, as in DDRNet; between the
  branches and in the fusion, sums are added, not activations;
- where the paper can be read in several ways, the way is an argument, and the default is the one that gives the
  paper's parameters and FLOPs;
- both branches up to layer 12 are ``base``, so that a classifier on them starts the segmentation network.
"""

from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor, cat, nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError, nearest
from featherseg.models.depthwise import DepthwiseConv2d
from featherseg.models.layers import initialise_convolutions, resize
from featherseg.models.norm import batch_norm_activation
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.registry import register_model

Expand = Literal["out", "in", "twice_in", "twice_out"]
Shortcut = Literal["depthwise", "pointwise", "none"]
Fusion = Literal["parallel", "sequential"]
Activation = Literal["post", "pre"]
HEAD_WIDTH = 64
SMALLEST = 64  # the stride of the low-resolution branch


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes a single value a channel, too: it then uses its running statistics, as in ``eval()``.

    Global pooling gives one value for a batch of one image, and PyTorch's own layer raises there.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(input)


class _NormalisedConvolution(nn.Sequential):
    """A convolution, batch norm and perhaps a ReLU; the latter two are one operator in training."""

    def forward(self, input: Tensor) -> Tensor:
        x = self[0](input)
        return batch_norm_activation(self[1], x, "relu") if len(self) > 2 else self[1](x)  # type: ignore[arg-type]


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, groups: int = 1, relu: bool = False
) -> nn.Sequential:
    """Convolution without bias and batch norm, with a ReLU behind them where ``relu`` says so."""
    kind = DepthwiseConv2d if in_channels == out_channels == groups > 1 else nn.Conv2d
    convolution = kind(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers: list[nn.Module] = [convolution, BatchNorm(out_channels)]
    return _NormalisedConvolution(*layers, nn.ReLU(inplace=True)) if relu else _NormalisedConvolution(*layers)


def _preactivated(in_channels: int, out_channels: int, *more: nn.Module) -> nn.Sequential:
    """Batch norm, ReLU, the layers of ``more`` and a 1x1 convolution without bias."""
    # Not in place: several paths share one input.
    layers: list[nn.Module] = [BatchNorm(in_channels), nn.ReLU(), *more]
    return nn.Sequential(*layers, nn.Conv2d(in_channels, out_channels, 1, bias=False))


class EIBM(nn.Module):
    """Efficient inverted bottleneck module (Wang et al., Sec. 2.2), ``[B, in, H, W]`` to ``[B, out, H', W']``.

    A 1x1 convolution with ReLU, two linear depthwise 3x3 convolutions, a linear 1x1 convolution, the shortcut and,
    unless ``relu`` is false, a ReLU. The stride is the first depthwise convolution's.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expand: Expand, shortcut: Shortcut, relu: bool = True
    ) -> None:
        super().__init__()
        middle = {"out": out_channels, "in": in_channels, "twice_in": 2 * in_channels, "twice_out": 2 * out_channels}[
            expand
        ]
        self.expand = _convolution(in_channels, middle, 1, relu=True)
        self.depthwise = nn.Sequential(
            _convolution(middle, middle, 3, stride, groups=middle), _convolution(middle, middle, 3, groups=middle)
        )
        self.project = _convolution(middle, out_channels, 1)
        self.shortcut: nn.Module | None
        if stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        elif shortcut == "none":
            self.shortcut = None
        elif stride > 1 and shortcut == "depthwise":
            self.shortcut = nn.Sequential(
                _convolution(in_channels, in_channels, 3, stride, groups=in_channels),
                _convolution(in_channels, out_channels, 1),
            )
        else:
            self.shortcut = _convolution(in_channels, out_channels, 1, stride)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return F.relu(out) if self.relu else out


class BFM(nn.Module):
    """Bilateral fusion module (Wang et al., Eq. 1): sums (before the ReLU) of both branches to the same shapes.

    ``low`` is halved ``steps`` times against ``high``. With ``sequential`` the high branch gets the low branch's
    new sum instead of its old one.
    """

    def __init__(self, high_channels: int, low_channels: int, steps: int, sequential: bool) -> None:
        super().__init__()
        self.sequential = sequential
        widths = [high_channels, *(low_channels // 2**step for step in reversed(range(steps)))]
        self.down = nn.Sequential(
            *(_convolution(widths[i], widths[i + 1], 3, 2, relu=i + 1 < steps) for i in range(steps))
        )
        self.up = _convolution(low_channels, high_channels, 1)

    def forward(self, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        fused = low + self.down(F.relu(high))
        from_low = self.up(F.relu(fused if self.sequential else low))
        return high + resize(from_low, high.shape[-2:], align_corners=False), fused


class ELPPM(nn.Module):
    """Extremely lightweight pyramid pooling module (Wang et al., Sec. 2.3), ``[B, in, H, W]`` to ``[B, out, H, W]``.

    Kernels and strides of the average pooling are DDRNet's, which the paper names in part; the padding's zeros count.
    ``activation`` puts batch norm and ReLU behind each convolution ("post") or before it ("pre", as in DDRNet).
    """

    def __init__(self, in_channels: int, out_channels: int, activation: Activation) -> None:
        super().__init__()
        self.pools = nn.ModuleList(
            [nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AvgPool2d(17, 8, 8), nn.AdaptiveAvgPool2d(1)]
        )
        if activation == "post":
            self.reduce = nn.ModuleList(_convolution(in_channels, out_channels, 1, relu=True) for _ in range(5))
            self.blend = nn.ModuleList(
                nn.Sequential(
                    _convolution(out_channels, out_channels, 3, groups=out_channels),
                    _convolution(out_channels, out_channels, 1, relu=True),
                )
                for _ in range(4)
            )
            self.fuse = _convolution(5 * out_channels, out_channels, 1, relu=True)
            self.shortcut = _convolution(in_channels, out_channels, 1, relu=True)
        else:
            self.reduce = nn.ModuleList(_preactivated(in_channels, out_channels) for _ in range(5))
            self.blend = nn.ModuleList(
                _preactivated(
                    out_channels,
                    out_channels,
                    DepthwiseConv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False),
                )
                for _ in range(4)
            )
            self.fuse = _preactivated(5 * out_channels, out_channels)
            self.shortcut = _preactivated(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.reduce[0](x)]
        for pool, reduce, blend in zip(self.pools, list(self.reduce)[1:], self.blend, strict=True):
            middle = resize(reduce(pool(x)), x.shape[-2:], align_corners=False)
            outputs.append(blend(middle + outputs[-1]))
        return self.fuse(cat(outputs, 1)) + self.shortcut(x)


class TrunkFeatures(NamedTuple):
    """What the trunk hands on: ``detail`` (layer 5), ``middle`` (low branch, layer 11) and ``low`` (layer 12) after
    their ReLU, ``high`` (layer 12) before it."""

    detail: Tensor
    high: Tensor
    middle: Tensor
    low: Tensor


class DRBANetTrunk(nn.Module):
    """Layers 1 to 12 of both branches (Wang et al., Tab. 1)."""

    def __init__(self, expand: Expand, shortcut: Shortcut, bfm: Fusion) -> None:
        super().__init__()

        def stage(in_channels: int, out_channels: int, stride: int, blocks: int = 2) -> nn.Sequential:
            return nn.Sequential(
                *(
                    EIBM(
                        out_channels if block else in_channels,
                        out_channels,
                        1 if block else stride,
                        expand,
                        shortcut,
                        relu=block + 1 < blocks,
                    )
                    for block in range(blocks)
                )
            )

        sequential = bfm == "sequential"
        self.stem = _convolution(3, 32, 3, 2, relu=True)
        self.layers_2_3, self.layers_4_5 = stage(32, 32, 2), stage(32, 64, 2)
        self.high_6_7, self.low_6_7 = stage(64, 64, 1), stage(64, 128, 2)
        self.bfm_8 = BFM(64, 128, 1, sequential)
        self.high_9_10, self.low_9_10 = stage(64, 64, 1), stage(128, 256, 2)
        self.bfm_11 = BFM(64, 256, 2, sequential)
        self.high_12, self.low_12 = stage(64, 128, 1, blocks=1), stage(256, 512, 2, blocks=1)

    def forward(self, x: Tensor) -> TrunkFeatures:
        detail = F.relu(self.layers_4_5(F.relu(self.layers_2_3(self.stem(x)))))
        high, low = self.bfm_8(self.high_6_7(detail), self.low_6_7(detail))
        high, low = self.bfm_11(self.high_9_10(F.relu(high)), self.low_9_10(F.relu(low)))
        middle = F.relu(low)
        return TrunkFeatures(detail, self.high_12(F.relu(high)), middle, F.relu(self.low_12(middle)))


def _head(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(in_channels, HEAD_WIDTH, 3, relu=True), nn.Conv2d(HEAD_WIDTH, out_channels, 1))


class DRBANet(nn.Module):
    """The network of the paper's Fig. 1.

    ``forward``: float ``[B, 3, H, W]`` to :class:`SegmentationOutput` with logits at stride 8; in training besides one
    auxiliary ``[B, K, H/32, W/32]`` and the boundary logits ``[B, 1, H/8, W/8]``.
    """

    logits_prefixes = ("head.3.", "auxiliary_head.3.")
    training_heads = ("auxiliary", "boundary")

    def __init__(
        self,
        num_classes: int = 19,
        expand: Expand = "out",
        shortcut: Shortcut = "depthwise",
        bfm: Fusion = "parallel",
        elppm: Activation = "post",
    ) -> None:
        super().__init__()
        self.input_spec = InputSpec(min_size=SMALLEST, output_stride=8, align_corners=False)
        self.base = DRBANetTrunk(expand, shortcut, bfm)
        self.elppm = ELPPM(512, 128, elppm)
        self.boundary_fusion = _convolution(64, 128, 1, relu=True)
        self.head = _head(128, num_classes)
        self.auxiliary_head = _head(256, num_classes)
        self.boundary_head = _head(64, 1)
        initialise_convolutions(self, nn.init.kaiming_normal_)

    @property
    def distillation_paths(self) -> dict[str, str]:
        """Maps that a distillation may compare, see distillation/paths.py."""
        return {"1/8": "head.input", "1/32": "base.low_9_10", "1/64": "elppm"}

    def forward(self, images: Tensor) -> SegmentationOutput:
        features: TrunkFeatures = self.base(self.input_spec.pad(images))
        context = resize(self.elppm(features.low), features.high.shape[-2:], align_corners=False)
        logits = self.head(F.relu(features.high + context + self.boundary_fusion(features.detail)))
        if not self.training:
            return SegmentationOutput(logits)
        return SegmentationOutput(logits, (self.auxiliary_head(features.middle),), self.boundary_head(features.detail))


class DRBANetClassifier(nn.Module):
    """Both branches under global average pooling and a linear layer: what is pre-trained on ImageNet-style folders.

    ``forward``: float ``[B, 3, H, W]`` to logits ``[B, num_classes]``. Keys of the trunk are ``base.*``, as in
    :class:`DRBANet`; ELPPM is no part of it.
    """

    logits_prefixes = ("fc.",)

    def __init__(self, num_classes: int, expand: Expand, shortcut: Shortcut, bfm: Fusion) -> None:
        super().__init__()
        self.input_spec = InputSpec(min_size=SMALLEST, output_stride=SMALLEST, align_corners=False)
        self.base = DRBANetTrunk(expand, shortcut, bfm)
        self.fc = nn.Linear(128 + 512, num_classes)
        initialise_convolutions(self, nn.init.kaiming_normal_)

    def forward(self, images: Tensor) -> Tensor:
        features: TrunkFeatures = self.base(self.input_spec.pad(images))
        return self.fc(cat([F.relu(features.high).mean((2, 3)), features.low.mean((2, 3))], 1))


def _check(name: str, **arguments: tuple[Any, Any]) -> None:
    for argument, (value, kind) in arguments.items():
        choices = get_args(kind)
        if value not in choices:
            raise FeathersegError(
                f"{name}: {argument} is {value!r}{nearest(str(value), choices)}. It can be: {', '.join(choices)}."
            )


@register_model("drbanet")
def drbanet(
    num_classes: int = 19,
    *,
    expand: Expand = "out",
    shortcut: Shortcut = "depthwise",
    bfm: Fusion = "parallel",
    elppm: Activation = "post",
) -> DRBANet:
    """DRBANet.

    Args:
        num_classes: channels of the logits.
        expand: channels between an EIBM's 1x1 convolutions: as many as come out ("out"), go in ("in"), or twice that.
        shortcut: of an EIBM with stride 2: depthwise 3x3 and 1x1 ("depthwise"), a 1x1 ("pointwise"), or none where
            the shape changes ("none", which also takes the 1x1 from layer 12 of the high-resolution branch).
        bfm: whether both sums of a BFM are made of what comes in ("parallel", Eq. 1), or the high branch's of the low
            branch's new one ("sequential").
        elppm: batch norm and ReLU behind ("post") or before ("pre") each of ELPPM's convolutions.
    """
    _check("drbanet", expand=(expand, Expand), shortcut=(shortcut, Shortcut), bfm=(bfm, Fusion))
    _check("drbanet", elppm=(elppm, Activation))
    return DRBANet(num_classes, expand, shortcut, bfm, elppm)


@register_model("drbanet_trunk", task="classification")
def drbanet_trunk(
    num_classes: int = 1000, *, expand: Expand = "out", shortcut: Shortcut = "depthwise", bfm: Fusion = "parallel"
) -> DRBANetClassifier:
    """The trunk of DRBANet as a classifier; its arguments are those of the network it shall start."""
    _check("drbanet_trunk", expand=(expand, Expand), shortcut=(shortcut, Shortcut), bfm=(bfm, Fusion))
    return DRBANetClassifier(num_classes, expand, shortcut, bfm)
