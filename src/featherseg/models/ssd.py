"""SSD300 on VGG-16, the pyramid paper's baseline detector.

Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, as torchvision publishes it: with one class of objects
23,745,908 parameters and 30.43 GMACs at 300x300.

| map | from                              | size  | channels | anchors of a cell | scale |
|-----|-----------------------------------|-------|----------|-------------------|-------|
| 0   | conv4_3, L2-normalised and scaled | 38x38 | 512      | 4                 | 0.07  |
| 1   | conv7 (fc7, dilated fc6 before)   | 19x19 | 1024     | 6                 | 0.15  |
| 2   | conv8_2                           | 10x10 | 512      | 6                 | 0.33  |
| 3   | conv9_2                           | 5x5   | 256      | 6                 | 0.51  |
| 4   | conv10_2                          | 3x3   | 256      | 4                 | 0.69  |
| 5   | conv11_2                          | 1x1   | 256      | 4                 | 0.87  |

Design choices:
- modules have the names of torchvision's network, so that its state dict fits;
- images are resized to 300x300 whatever their aspect, pixels lie on 0..255 around the mean of VGG's training;
- the number of classes is that of the objects; the scores have the background before them.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.models.anchors import cell_anchors
from featherseg.models.detection_output import BoxCode, DetectionOutput, DetectorSpec, flat_maps
from featherseg.models.output import InputSpec
from featherseg.models.registry import register_model

SIDE = 300
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
EXTRAS = ((1024, 256, 512, 2, 1), (512, 128, 256, 2, 1), (256, 128, 256, 1, 0), (256, 128, 256, 1, 0))
MAP_CHANNELS = (512, 1024, 512, 256, 256, 256)
STEPS = (8, 16, 32, 64, 100, 300)
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
ASPECTS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
FIRST_SCALE = 20.0


def default_shapes(level: int) -> Tensor:
    """Widths and heights of a level's anchors as shares of the input, float64 ``[A, 2]`` (Liu et al., Sec. 2.2)."""
    scale, following = SCALES[level : level + 2]
    shapes = [(scale, scale), ((scale * following) ** 0.5,) * 2]
    for aspect in ASPECTS[level]:
        wide, narrow = scale * aspect**0.5, scale / aspect**0.5
        shapes += [(wide, narrow), (narrow, wide)]
    return torch.tensor(shapes, dtype=torch.float64).clamp(0, 1)


def map_sizes(side: int) -> list[int]:
    """Cells along one side of the six maps for an input of ``side`` pixels.

    >>> map_sizes(300)
    [38, 19, 10, 5, 3, 1]
    """
    first = -(-(side // 2 // 2) // 2)
    sizes = [first, first // 2]
    for _, _, _, stride, padding in EXTRAS:
        sizes.append((sizes[-1] + 2 * padding - 3) // stride + 1)
    return sizes


def _vgg_features() -> nn.Sequential:
    """VGG-16 up to the ReLU of conv4_3; the third pooling rounds up."""
    layers: list[nn.Module] = []
    channels = 3
    for number, widths in enumerate(VGG16[:4]):
        if number:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=number == 3))
        layers += _convolutions(channels, widths)
        channels = widths[-1]
    return nn.Sequential(*layers)


def _convolutions(channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    pairs = pairwise((channels, *widths))
    return [layer for a, b in pairs for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True))]


def _tail() -> nn.Sequential:
    """The fourth pooling, conv5, and the dilated form of VGG's fully connected layers."""
    connected = nn.Sequential(
        nn.MaxPool2d(3, 1, padding=1),
        nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
        nn.ReLU(inplace=True),
        nn.Conv2d(1024, 1024, 1),
        nn.ReLU(inplace=True),
    )
    return nn.Sequential(nn.MaxPool2d(2, 2), *_convolutions(512, VGG16[4]), connected)


class SSDBackbone(nn.Module):
    """VGG-16 and the layers behind it: float ``[B, 3, H, W]`` to the six maps."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_weight = nn.Parameter(torch.full((512,), FIRST_SCALE))
        self.features = _vgg_features()
        self.extra = nn.ModuleList([_tail()])
        for inside, narrow, out, stride, padding in EXTRAS:
            self.extra.append(
                nn.Sequential(
                    nn.Conv2d(inside, narrow, 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(narrow, out, 3, stride, padding),
                    nn.ReLU(inplace=True),
                )
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.features(images)
        maps = [self.scale_weight.view(1, -1, 1, 1) * F.normalize(x)]
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return maps


class SSDBranch(nn.Module):
    """A 3x3 convolution for each map."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values
        self.module_list = nn.ModuleList(
            nn.Conv2d(channels, len(default_shapes(level)) * values, 3, padding=1)
            for level, channels in enumerate(MAP_CHANNELS)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        return flat_maps([conv(x) for conv, x in zip(self.module_list, maps, strict=True)], self.values)


class SSDHead(nn.Module):
    """Scores and deltas of all anchors."""

    def __init__(self, scores: int) -> None:
        super().__init__()
        self.classification_head = SSDBranch(scores)
        self.regression_head = SSDBranch(4)

    def forward(self, maps: list[Tensor]) -> DetectionOutput:
        return DetectionOutput(self.classification_head(maps), self.regression_head(maps))


class SSD300(nn.Module):
    """Backbone ``[B, 3, 300, 300]`` to :class:`DetectionOutput` of 8,732 anchors, the background's score first.

    Raises:
        FeathersegError: the input is too small for the last map.
    """

    encoder_prefixes = ("backbone.",)
    logits_prefixes = ("head.classification_head.",)
    input_spec = InputSpec("RGB", (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255), output_stride=8)
    detector_spec = DetectorSpec(
        size=(SIDE, SIDE),
        scoring="softmax",
        code=BoxCode((10.0, 10.0, 5.0, 5.0)),
        positive_iou=0.5,
        negative_iou=0.5,
        score_threshold=0.01,
        candidates=400,
        nms_iou=0.45,
        keep=200,
    )

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = SSDBackbone()
        self.head = SSDHead(num_classes + 1)
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                ours = name.startswith(("backbone.features.", "backbone.extra.0."))
                initialise = nn.init.kaiming_normal_ if ours else nn.init.xavier_uniform_
                initialise(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> DetectionOutput:
        if min(map_sizes(min(images.shape[-2:]))) < 1:
            raise FeathersegError(
                f"ssd300_vgg16: an input of {images.shape[-2]}x{images.shape[-1]} is too small for its last map. "
                f"Resize images to {SIDE}x{SIDE}, as detector_spec has it."
            )
        return self.head(self.backbone(images))

    def anchors(self, height: int, width: int) -> Tensor:
        """Float32 ``[N, 4]`` (x1, y1, x2, y2) in pixels of an input of ``height`` x ``width``."""
        found = []
        for level, (rows, columns) in enumerate(zip(map_sizes(height), map_sizes(width), strict=True)):
            shapes = default_shapes(level) * torch.tensor([width, height])
            found.append(cell_anchors(shapes, rows, columns, (STEPS[level], STEPS[level])))
        return torch.cat(found)


@register_model("ssd300_vgg16", task="detection")
def ssd300_vgg16(num_classes: int = 1) -> SSD300:
    """SSD300 on VGG-16 for ``num_classes`` classes of objects."""
    return SSD300(num_classes)
