"""FasterSeg: a stem, one or two branches of searched cells that share their first ones, and a decoder at 1/8.

Chen et al., "FasterSeg: Searching for Faster Real-time Semantic Segmentation", ICLR 2020; the tutor and the Pixel
Shuffle module: Yang et al., ISVC 2021. With 19 classes, MACs at 1024x2048:

| name                 | parameters | deployed   | conv MACs | logits at |
|----------------------|------------|------------|-----------|-----------|
| fasterseg_student    | 4,352,921  | 3,421,875  | 27.770 G  | 1/8       |
| fasterseg_teacher    | 23,450,409 | 22,115,203 | 107.779 G | 1/8       |
| fasterseg_student_ps | 4,239,577  | 3,308,531  | 27.791 G  | 1/4       |
| fasterseg            | any architecture by its JSON file, see fasterseg_architecture.py |

The decoder brings each branch from its end to 1/8: at every step a 1x1 convolution ("arm"), enlarging, the branch's
last map of that scale joined, a 3x3 convolution ("refine"). The branches' maps together pass a 1x1 convolution (FFM)
and the head. Two further heads, on the branches' last maps at 1/16 and 1/32, train alone.

Design choices:
- the published fusion module holds a squeeze-excite part of C x C x 2 parameters that it never runs. It is left out;
  ``published_extras`` builds it, for the published 4,385,689 parameters of a student as it is trained;
- maps are enlarged to the size of the map they join, so that odd sizes fit; the published code doubles;
- ``resize="nearest"`` is the variant whose latency was published; it is not what was trained;
- an architecture given by file becomes part of the weights' metadata: weights need no JSON beside them.
"""

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError, nearest
from featherseg.models.fasterseg_architecture import Architecture, Branch, parse, read_architecture
from featherseg.models.fasterseg_cells import ConvNorm, Resize, build_operator, resize_map
from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.models.layers import initialise_convolutions
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.pixel_shuffle import PixelShuffleEnlarging
from featherseg.models.registry import register_model

Head = Literal["plain", "pixel_shuffle"]
WIDEST_HEAD = 256


def initialise(network: nn.Module) -> None:
    """As the published training does: normal, by the inputs of each convolution."""
    initialise_convolutions(network, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"))
    for layer in network.modules():
        if isinstance(layer, PixelShuffleEnlarging):
            layer.start_bilinear()


class SegmentationHead(nn.Module):
    """A 3x3 convolution, to half the channels where there are more than 256, and a 1x1 to the classes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width = in_channels if in_channels <= WIDEST_HEAD else in_channels // 2
        self.conv_3x3 = ConvNorm(in_channels, width, 3)
        self.conv_1x1 = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_1x1(self.conv_3x3(x))


class FeatureFusion(ConvNorm):
    """The 1x1 convolution on the joined branches (FFM); ``extras`` adds the published part that is never run."""

    def __init__(self, in_channels: int, out_channels: int, extras: bool = False) -> None:
        super().__init__(in_channels, out_channels, 1)
        if extras:
            self.channel_attention = nn.Sequential(
                nn.Conv2d(out_channels, out_channels, 1, bias=False),
                nn.Conv2d(out_channels, out_channels, 1, bias=False),
            )


class DecodedBranch(NamedTuple):
    """A branch's map ``[B, C, H/8, W/8]``, and what its arms and refines gave, by scale (as 1/scale of the image)."""

    at_8: Tensor
    arms: dict[int, Tensor]
    refines: dict[int, Tensor]


class BranchDecoder(nn.Module):
    """Brings a branch from its end to 1/8; a branch that ends there passes through."""

    def __init__(self, branch: Branch, entry: int, head_width: int, resize: Resize) -> None:
        super().__init__()
        self.scale = branch.scale
        self.resize: Resize = resize
        channels = branch.last_channels(entry)
        self.arms, self.refines = nn.ModuleList(), nn.ModuleList()
        scale, width = branch.scale, channels[branch.scale]
        while scale > 8:
            scale //= 2
            arm_width = head_width * scale // 8
            self.arms.append(ConvNorm(width, arm_width, 1))
            self.refines.append(ConvNorm(arm_width + channels[scale], arm_width, 3))
            width = arm_width
        self.out_channels = width

    def forward(self, maps: dict[int, Tensor]) -> DecodedBranch:
        scale, x = self.scale, maps[self.scale]
        arms, refines = {}, {}
        for arm, refine in zip(self.arms, self.refines, strict=True):
            arms[scale] = x = arm(x)
            scale //= 2
            skip = maps[scale]
            refines[scale] = x = refine(torch.cat([resize_map(x, skip.shape[-2:], self.resize), skip], 1))
        return DecodedBranch(x, arms, refines)


class Features(NamedTuple):
    """What the heads and a distillation work on, each ``[B, C, H/s, W/s]``.

    ``stem_4`` is the stem's map at 1/4, ``fused`` the FFM's at 1/8; ``last`` holds each branch's last maps by scale,
    ``branches`` what its decoder made of them.
    """

    stem_4: Tensor
    fused: Tensor
    last: list[dict[int, Tensor]]
    branches: list[DecodedBranch]


class FasterSeg(nn.Module):
    """An architecture of the family.

    ``forward``: float ``[B, 3, H, W]`` to :class:`SegmentationOutput` with logits at stride 8 (4 with Pixel Shuffle);
    in training besides auxiliary logits at 1/16 and 1/32, as far as branches reach.
    """

    encoder_prefixes: tuple[str, ...] = ("stem.", "cells.", "decoders.", "ffm.")
    logits_prefixes: tuple[str, ...] = ("heads8.conv_1x1.", "heads16.conv_1x1.", "heads32.conv_1x1.")

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int = 19,
        *,
        resize: Resize = "bilinear",
        published_extras: bool = False,
        head: Head = "plain",
    ) -> None:
        super().__init__()
        _check_options(resize, published_extras, head)
        self.architecture = architecture
        self.resize: Resize = resize
        first, second, entry = architecture.stem
        self.stem = nn.Sequential(
            ConvNorm(3, first, 3, 2),
            build_operator("conv_2x", first, second, 2),
            build_operator("conv_2x", second, entry, 2),
        )
        self.cells = nn.ModuleDict()
        for index, branch in enumerate(architecture.branches):
            for number, layer in enumerate(branch.layers):
                if index == 0 or number >= architecture.shared_layers:
                    cell = build_operator(layer.operator, layer.in_channels, layer.out_channels, layer.stride, resize)
                    self.cells[f"{number}-{index}"] = cell
        self.decoders = nn.ModuleList(
            BranchDecoder(branch, entry, architecture.head_width, resize) for branch in architecture.branches
        )
        joined = sum(decoder.out_channels for decoder in self.decoders)  # type: ignore[misc]
        self.fused_channels = architecture.head_width * len(architecture.branches)
        self.input_spec = InputSpec(min_size=2 * max(branch.scale for branch in architecture.branches), output_stride=8)
        if head == "pixel_shuffle":
            self.encoder_prefixes = ("stem.", "cells.", "decoders.")  # the FFM is another one
            self.fused_channels = max(1, self.fused_channels // 2)
            self.input_spec = InputSpec(min_size=self.input_spec.min_size, output_stride=4)
        self.ffm = FeatureFusion(joined, self.fused_channels, published_extras)
        self.enlarge = PixelShuffleEnlarging(self.fused_channels) if head == "pixel_shuffle" else nn.Identity()
        self.heads8 = SegmentationHead(self.fused_channels, num_classes)
        for scale in (16, 32):
            widths = [branch.last_channels(entry).get(scale, 0) for branch in architecture.branches]
            if any(widths):
                self.add_module(f"heads{scale}", SegmentationHead(sum(widths), num_classes))
        initialise(self)

    @property
    def training_heads(self) -> tuple[str, ...]:
        """Which outputs of :class:`SegmentationOutput` training alone has."""
        return ("auxiliary",) if "heads16" in self._modules or "heads32" in self._modules else ()

    @property
    def distillation_paths(self) -> dict[str, str]:
        """Maps that a distillation may compare, see distillation/paths.py."""
        scales = [branch.scale for branch in self.architecture.branches]
        deepest = scales.index(max(scales))
        paths = {"1/8": "ffm"}
        for step in range(len(self.decoders[deepest].arms)):  # type: ignore[arg-type]
            scale = scales[deepest] >> step
            paths[f"1/{scale}"] = f"decoders.{deepest}." + (f"refines.{step - 1}" if step else "arms.0")
        return paths

    def cell(self, layer: int, branch: int) -> nn.Module:
        """The cell of a layer of a branch, each counted from 0; a shared one is the same for both branches."""
        return self.cells[f"{layer}-{0 if layer < self.architecture.shared_layers else branch}"]

    def features(self, images: Tensor) -> Features:
        """All maps that heads and distillation take, for normalised images ``[B, 3, H, W]``."""
        stem_4 = self.stem[:2](self.input_spec.pad(images))
        entry = self.stem[2](stem_4)
        last: list[dict[int, Tensor]] = []
        shared: list[Tensor] = []
        for index, branch in enumerate(self.architecture.branches):
            x, scale, maps = entry, 8, {8: entry}
            for number, layer in enumerate(branch.layers):
                if index and number < self.architecture.shared_layers:
                    x = shared[number]
                else:
                    x = self.cell(number, index)(x)
                if index == 0 and number < self.architecture.shared_layers:
                    shared.append(x)
                scale *= layer.stride
                maps[scale] = x
            last.append(maps)
        branches = [decoder(maps) for decoder, maps in zip(self.decoders, last, strict=True)]
        return Features(stem_4, self.ffm(torch.cat([branch.at_8 for branch in branches], 1)), last, branches)

    def prediction_map(self, features: Features) -> Tensor:
        """The map that the head of the logits works on."""
        return self.enlarge(features.fused)

    def classify(self, prediction_map: Tensor) -> Tensor:
        """The logits ``[B, K, h, w]`` of :meth:`prediction_map`."""
        return self.heads8(prediction_map)

    def auxiliary(self, features: Features) -> tuple[Tensor, ...]:
        """Logits at 1/16 and 1/32, as far as there are heads."""
        found = []
        for scale in (16, 32):
            maps = [maps[scale] for maps in features.last if scale in maps]
            if maps:
                size = maps[0].shape[-2:]  # of odd maps, zooming and strides make different halves
                joined = torch.cat([resize_map(one, size, self.resize) for one in maps], 1)
                found.append(self.get_submodule(f"heads{scale}")(joined))
        return tuple(found)

    def forward(self, images: Tensor) -> SegmentationOutput:
        return self.predict(self.features(images))

    def predict(self, features: Features) -> SegmentationOutput:
        """What :meth:`forward` gives, from :meth:`features`."""
        logits = self.classify(self.prediction_map(features))
        return SegmentationOutput(logits, self.auxiliary(features) or None if self.training else None)


def _check_options(resize: Any, published_extras: Any, head: Any) -> None:
    for name, value, kind in (("resize", resize, Resize), ("head", head, Head)):
        choices = get_args(kind)
        if value not in choices:
            raise FeathersegError(
                f"FasterSeg: {name} is {value!r}{nearest(str(value), choices)}. It can be: {', '.join(choices)}."
            )
    if not isinstance(published_extras, bool):
        raise FeathersegError(f"FasterSeg: published_extras is {published_extras!r}; it must be true or false.")


def find_architecture(given: Any) -> Architecture:
    """An architecture by the name of a published one, by its JSON file, or as what such a file holds.

    Raises:
        FeathersegError: it is none of them, or does not connect.
    """
    if isinstance(given, Architecture):
        return given
    if isinstance(given, str) and given in PUBLISHED:
        return PUBLISHED[given]
    if isinstance(given, str | Path):
        if os.path.isfile(given):  # which takes a text of any length, unlike Path.is_file
            return read_architecture(given)
        said = str(given) if len(str(given)) <= 60 else f"{str(given)[:60]}..."
        raise FeathersegError(
            f"architecture={said}: there is no such file{nearest(str(given), PUBLISHED)}. "
            f"Give a JSON file, what such a file holds (a mapping, without quotes), or one of {', '.join(PUBLISHED)}."
        )
    return parse(given, "architecture")


@register_model("fasterseg")
def fasterseg(
    num_classes: int = 19,
    *,
    architecture: Any = "fasterseg_student",
    resize: Resize = "bilinear",
    published_extras: bool = False,
    head: Head = "plain",
) -> FasterSeg:
    """Any architecture of the family.

    Args:
        num_classes: channels of the logits.
        architecture: a JSON file, what such a file holds, or the name of a published one.
        resize: how maps are enlarged and halved inside: "bilinear", or "nearest" as in the published latencies.
        published_extras: build the parameters that the published networks have and never use.
        head: "plain", or "pixel_shuffle" of Yang et al. 2021.
    """
    found = find_architecture(architecture)
    network = FasterSeg(found, num_classes, resize=resize, published_extras=published_extras, head=head)
    network.travelling_arguments = {"architecture": found.to_dict()}  # type: ignore[assignment]
    return network


@register_model("fasterseg_student")
def fasterseg_student(
    num_classes: int = 19, *, resize: Resize = "bilinear", published_extras: bool = False, head: Head = "plain"
) -> FasterSeg:
    """The published student, on branches to 1/32 and 1/16; arguments as of ``fasterseg``."""
    architecture = PUBLISHED["fasterseg_student"]
    return FasterSeg(architecture, num_classes, resize=resize, published_extras=published_extras, head=head)


@register_model("fasterseg_teacher")
def fasterseg_teacher(
    num_classes: int = 19, *, resize: Resize = "bilinear", published_extras: bool = False, head: Head = "plain"
) -> FasterSeg:
    """The published teacher; arguments as of ``fasterseg``."""
    architecture = PUBLISHED["fasterseg_teacher"]
    return FasterSeg(architecture, num_classes, resize=resize, published_extras=published_extras, head=head)


@register_model("fasterseg_student_ps")
def fasterseg_student_ps(num_classes: int = 19, *, resize: Resize = "bilinear") -> FasterSeg:
    """The published student with the Pixel Shuffle prediction module."""
    return FasterSeg(PUBLISHED["fasterseg_student"], num_classes, resize=resize, head="pixel_shuffle")
