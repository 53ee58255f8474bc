"""HarDNet: the harmonic densely connected trunk of FC-HarDNet-70 and FASSD-Net (Chao et al., ICCV 2019).

A HarDBlock's layer l takes the outputs of layers l - 2^i for every 2^i that divides l, nearest first, and gives
k * m^(number of i >= 1 with 2^i | l) channels, rounded to even. The block's output joins all odd layers and the last
one; its input is not kept.

Design choices:
- the order of concatenation and the module names (``base.{i}``, ``layers.{j}``) are those of the published code, so
  that its checkpoints load key by key;
- the trunk is one flat list, and ``skips`` says after which entries a feature map is handed to a decoder: the skip is
  the HarDBlock's output, before the 1x1 transition.

| block | in | k  | L | out |   stage after it             |
|-------|----|----|---|-----|------------------------------|
| E1    | 48 | 10 | 4 | 48  | 1x1 to 64,  average pool 2   |
| E2    | 64 | 16 | 4 | 78  | 1x1 to 96,  average pool 2   |
| E3    | 96 | 18 | 8 | 160 | 1x1 to 160, average pool 2   |
| E4    |160 | 24 | 8 | 214 | 1x1 to 224 (average pool 2)  |
| E5    |224 | 32 | 8 | 286 | 1x1 to 320, FC-HarDNet-70 only |
"""

import torch
from torch import Tensor, nn

from featherseg.models.layers import ConvLayer, initialise_convolutions
from featherseg.models.output import InputSpec
from featherseg.models.registry import register_model

GROWTH_RATE = 1.7
BGR_MEAN, BGR_STD = (0.406, 0.456, 0.485), (0.225, 0.224, 0.229)
ENCODER_BLOCKS = (  # (k, L, channels after the 1x1 transition)
    (10, 4, 64),
    (16, 4, 96),
    (18, 8, 160),
    (24, 8, 224),
    (32, 8, 320),
)


def layer_links(layer: int) -> list[int]:
    """The layers that feed ``layer`` (1-based; 0 is the block's input), nearest first.

    >>> layer_links(4)
    [3, 2, 0]
    """
    links, step = [], 1
    while step <= layer:
        if layer % step:
            break
        links.append(layer - step)
        step *= 2
    return links


def layer_width(layer: int, k: int, m: float = GROWTH_RATE) -> int:
    """Output channels of ``layer``: k times m for every power of two from 2 up that divides it, rounded to even.

    >>> [layer_width(l, 18) for l in range(1, 9)]
    [18, 30, 18, 52, 18, 30, 18, 88]
    """
    width = float(k)
    step = 2
    while layer % step == 0:
        width *= m
        step *= 2
    return int(int(width + 1) / 2) * 2


class HarDBlock(nn.Module):
    """Harmonic dense block: ``[B, in_channels, H, W]`` to ``[B, out_channels, H, W]`` (Chao et al. 2019, Sec. 3)."""

    def __init__(self, in_channels: int, k: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_channels] + [layer_width(layer, k) for layer in range(1, num_layers + 1)]
        self.links = [layer_links(layer) for layer in range(1, num_layers + 1)]
        self.kept = [layer for layer in range(1, num_layers + 1) if layer % 2 or layer == num_layers]
        self.layers = nn.ModuleList(
            ConvLayer(sum(widths[source] for source in links), widths[layer])
            for layer, links in enumerate(self.links, start=1)
        )
        self.out_channels = sum(widths[layer] for layer in self.kept)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for links, layer in zip(self.links, self.layers, strict=True):
            inputs = [outputs[source] for source in links]
            outputs.append(layer(inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)))
        return torch.cat([outputs[layer] for layer in self.kept], 1)


def hardnet_trunk(num_blocks: int, stem_strides: tuple[int, int, int, int]) -> tuple[nn.ModuleList, list[int], int]:
    """Build ``base``: the stem of four 3x3 convolutions and ``num_blocks`` HarDBlocks.

    Returns:
        The flat module list, the indices whose outputs are the blocks' features, and the channels at the end.
    """
    base = nn.ModuleList()
    channels = 3
    for out_channels, stride in zip((16, 24, 32, 48), stem_strides, strict=True):
        base.append(ConvLayer(channels, out_channels, 3, stride))
        channels = out_channels
    features = []
    for number, (k, num_layers, transition) in enumerate(ENCODER_BLOCKS[:num_blocks], start=1):
        block = HarDBlock(channels, k, num_layers)
        features.append(len(base))
        base.append(block)
        base.append(ConvLayer(block.out_channels, transition, 1))
        if number < num_blocks:
            base.append(nn.AvgPool2d(2, 2))
        channels = transition
    return base, features, channels


class HarDNetClassifier(nn.Module):
    """The trunk under global average pooling and a linear layer: what is pre-trained on ImageNet-style folders.

    ``forward``: float ``[B, 3, H, W]`` to logits ``[B, num_classes]``. Keys of the trunk are ``base.*``, so that a
    segmentation network of the family takes them as they are, whatever its stem strides.
    """

    logits_prefixes = ("fc.",)

    def __init__(self, num_classes: int, num_blocks: int, stem_strides: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.base, _, channels = hardnet_trunk(num_blocks, stem_strides)
        self.fc = nn.Linear(channels, num_classes)
        smallest = stem_strides[0] * stem_strides[1] * stem_strides[2] * 2 ** (num_blocks - 1)
        self.input_spec = InputSpec("BGR", BGR_MEAN, BGR_STD, min_size=smallest, output_stride=smallest)
        initialise_convolutions(self, nn.init.kaiming_normal_)

    def forward(self, images: Tensor) -> Tensor:
        x = self.input_spec.pad(images)
        for layer in self.base:
            x = layer(x)
        return self.fc(x.mean((2, 3)))


@register_model("hardnet_petite", task="classification")
def hardnet_petite(
    num_classes: int = 1000, *, num_blocks: int = 4, stem_strides: tuple[int, int, int, int] = (2, 1, 2, 1)
) -> HarDNetClassifier:
    """The trunk of FASSD-Net (4 blocks) or FC-HarDNet-70 (5) as a classifier."""
    return HarDNetClassifier(num_classes, num_blocks, tuple(stem_strides))  # type: ignore[arg-type]
