"""A network of four convolutions whose labels follow the picture, for exports that take their time."""

import torch
from lively import blots
from torch import Tensor, nn

from featherseg.deploy.segmenter import Segmenter, segmenter
from featherseg.models.output import InputSpec, SegmentationOutput

CLASSES = 5
ABOUT = {
    "format": 1,
    "task": "segmentation",
    "architecture": "small",
    "num_classes": CLASSES,
    "classes": [f"thing {number}" for number in range(CLASSES)],
    "palette": [[number, 2, 3] for number in range(CLASSES)],
    "label_set": "things",
}


class SmallNetwork(nn.Module):
    """Logits at stride 4; the batch norm has been trained for a while, and the normalisation is not symmetric."""

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = InputSpec(mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.25), min_size=8, output_stride=4)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2, 1, groups=8),
            nn.Conv2d(8, 16, 1),
            nn.ReLU6(),
            nn.Conv2d(16, CLASSES, 1),
        )

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.layers(self.input_spec.pad(images)))


@torch.no_grad()
def small_network() -> SmallNetwork:
    """The same at every call; each of its classes wins somewhere."""
    torch.manual_seed(4)
    network = SmallNetwork()
    noise = torch.randn(4, 3, 32, 32)
    for _ in range(20):
        network.layers[1](network.layers[0](noise))
    logits = network.eval()(network.input_spec.normalise(torch.from_numpy(blots(3, 4, (40, 57))))).logits
    last = network.layers[-1]
    scale = 1 / logits.std((0, 2, 3))
    last.weight *= scale.view(-1, 1, 1, 1)  # type: ignore[operator,union-attr]
    last.bias.copy_((last.bias - logits.mean((0, 2, 3))) * scale)  # type: ignore[operator,union-attr]
    return network


def small_segmenter() -> Segmenter:
    return segmenter(small_network(), ABOUT | {"input_spec": small_network().input_spec.to_dict()})
