"""Object-contextual representations: every pixel attends to the mean features of the classes' soft regions.

Yuan, Chen and Wang, "Object-Contextual Representations for Semantic Segmentation", ECCV 2020.

1. an auxiliary head scores the pixels, and each class's scores, as a softmax over all pixels, weigh the features to one
   vector a class, its region;
2. a pixel's attention over the regions is the softmax of the scaled products of its key with theirs; it gathers their
   values, and what it gathered is joined with its own features before the last layer.

The published loss is 0.4 of the auxiliary's cross-entropy and the logits' own.
"""

import torch
from torch import Tensor, nn

DROPOUT = 0.05


def _conv_norm(in_channels: int, out_channels: int, momentum: float) -> list[nn.Module]:
    """A 1x1 convolution, and batch norm with ReLU as one entry: the published indices count so."""
    norm = nn.Sequential(nn.BatchNorm2d(out_channels, momentum=momentum), nn.ReLU(inplace=True))
    return [nn.Conv2d(in_channels, out_channels, 1, bias=False), norm]


class ObjectAttention(nn.Module):
    """Pixels ``[B, C, H, W]`` and regions ``[B, C, K, 1]`` to the context of each pixel, ``[B, C, H, W]``."""

    def __init__(self, channels: int, key_channels: int, momentum: float) -> None:
        super().__init__()
        self.scale = key_channels**-0.5
        first, second = (channels, key_channels, momentum), (key_channels, key_channels, momentum)
        self.f_pixel = nn.Sequential(*_conv_norm(*first), *_conv_norm(*second))
        self.f_object = nn.Sequential(*_conv_norm(*first), *_conv_norm(*second))
        self.f_down = nn.Sequential(*_conv_norm(*first))
        self.f_up = nn.Sequential(*_conv_norm(key_channels, channels, momentum))

    def forward(self, pixels: Tensor, regions: Tensor) -> Tensor:
        queries = self.f_pixel(pixels).flatten(2).transpose(1, 2)
        keys, values = self.f_object(regions).flatten(2), self.f_down(regions).flatten(2)
        attention = torch.softmax(self.scale * (queries @ keys), 2)
        gathered = (attention @ values.transpose(1, 2)).transpose(1, 2)
        return self.f_up(gathered.reshape(*gathered.shape[:2], *pixels.shape[-2:]))


class _ContextJoin(nn.Module):
    """The attention, and the 1x1 convolution on what it gathered beside the pixels' own features."""

    def __init__(self, channels: int, key_channels: int, momentum: float) -> None:
        super().__init__()
        self.object_context_block = ObjectAttention(channels, key_channels, momentum)
        self.conv_bn_dropout = nn.Sequential(*_conv_norm(2 * channels, channels, momentum), nn.Dropout2d(DROPOUT))

    def forward(self, pixels: Tensor, regions: Tensor) -> Tensor:
        return self.conv_bn_dropout(torch.cat([self.object_context_block(pixels, regions), pixels], 1))


class ObjectContextHead(nn.Module):
    """``[B, in, H, W]`` to the logits and those of the soft regions, each ``[B, K, H, W]``."""

    def __init__(self, in_channels: int, num_classes: int, width: int, momentum: float) -> None:
        super().__init__()

        def normed(out_channels: int, kernel: int) -> list[nn.Module]:
            convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
            return [convolution, nn.BatchNorm2d(out_channels, momentum=momentum), nn.ReLU(inplace=True)]

        self.aux_head = nn.Sequential(*normed(in_channels, 1), nn.Conv2d(in_channels, num_classes, 1))
        self.conv3x3_ocr = nn.Sequential(*normed(width, 3))
        self.ocr_distri_head = _ContextJoin(width, width // 2, momentum)
        self.cls_head = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.aux_head(features)
        pixels = self.conv3x3_ocr(features)
        weights = torch.softmax(scores.flatten(2), 2)
        regions = (pixels.flatten(2) @ weights.transpose(1, 2))[..., None]
        return self.cls_head(self.ocr_distri_head(pixels, regions)), scores
