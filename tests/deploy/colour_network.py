"""Networks that need no training, for tests of what surrounds a network."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.deploy.segmenter import Segmenter, segmenter
from featherseg.models.output import InputSpec, SegmentationOutput

CLASSES = ["dark", "red", "green", "blue"]
PALETTE = [[20, 20, 20], [220, 30, 30], [30, 200, 30], [40, 60, 220]]


class ColourNetwork(nn.Module):
    """Says which of black, red, green and blue a pixel is nearest to, at stride 4 with aligned corners."""

    def __init__(self, min_size: int = 8) -> None:
        super().__init__()
        self.input_spec = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), min_size=min_size, output_stride=4)
        self.anchors = nn.Parameter(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]), requires_grad=False)

    def forward(self, images: Tensor) -> SegmentationOutput:
        padded = self.input_spec.pad(images)
        size = [-(-length // 4) for length in padded.shape[-2:]]
        small = F.interpolate(padded, size=size, mode="bilinear", align_corners=True)
        distance = (small[:, None] - self.anchors[None, :, :, None, None]).square().sum(2)
        return SegmentationOutput(-distance)


def colour_segmenter(min_size: int = 8) -> Segmenter:
    """A segmenter of colours, with four classes."""
    metadata = {"num_classes": 4, "classes": CLASSES, "palette": PALETTE, "label_set": "colours"}
    return segmenter(ColourNetwork(min_size), metadata, name="colours")
