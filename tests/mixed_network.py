"""A network of Cityscapes' 19 classes that needs no training, for the tests of every room."""

import torch
from torch import Tensor, nn

from featherseg.data.labels import CITYSCAPES19
from featherseg.deploy.segmenter import Segmenter, segmenter
from featherseg.models.output import InputSpec, SegmentationOutput


class MixedNetwork(nn.Module):
    """Gives every colour one of ``classes`` by a fixed random map, at full resolution: all classes are predicted."""

    def __init__(self, classes: int = len(CITYSCAPES19)) -> None:
        super().__init__()
        self.input_spec = InputSpec(mean=(0.5,) * 3, std=(0.1,) * 3, min_size=1, output_stride=1)
        self.mix = nn.Parameter(torch.randn(classes, 3, generator=torch.Generator().manual_seed(3)))

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(torch.einsum("kc,bchw->bkhw", self.mix, torch.sin(3 * images)))


def mixed_segmenter() -> Segmenter:
    """A segmenter of Cityscapes' classes that knows nothing."""
    metadata = {
        "num_classes": len(CITYSCAPES19),
        "classes": list(CITYSCAPES19.classes),
        "palette": [list(colour) for colour in CITYSCAPES19.palette],
    }
    return segmenter(MixedNetwork(), metadata, name="mixed")
