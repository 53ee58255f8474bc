"""The reference network: what every speed report measures beside its contestants, on every machine the same.

A ratio to it can be compared between two machines, and a machine that was busy or throttled shows in it. Choices worth
knowing:

- It is defined here and in nobody else's layers, by its own text: no change of a network, of a session or of the label
  maps may move it. A change of this file is another reference, under another number in :data:`REFERENCE`.
- It runs in eager PyTorch, in float32, channels last, since PyTorch is installed wherever featherseg is, and always at
  360x480, whatever size the contestants have, so that its own milliseconds can be compared too.
- It holds what networks here hold: dense 3x3 convolutions (most of its 587 M multiply-accumulates), depthwise and
  pointwise ones, ReLU, a sum, an arg-max at stride 8. It has no batch norm, so that folding is no question.
- It answers to the threads of the run. It has no matrix units' bfloat16: contestants that compute in it gain on the
  reference where a machine has those, which is what they do there.
"""

import torch
from torch import Tensor, nn

from featherseg.bench.measuring import Contestant
from featherseg.randomness import generator

REFERENCE = "reference-1"
SIZE = (360, 480)
STAGE = "network"


class ReferenceNetwork(nn.Module):
    """uint8 ``[1, H, W, 3]`` to ids uint8 ``[1, H / 8, W / 8]`` of 19 classes. The weights are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.to_quarter = nn.Conv2d(32, 64, 3, 2, 1)
        self.to_eighth = nn.Conv2d(64, 128, 3, 2, 1)
        self.depthwise = nn.ModuleList(nn.Conv2d(side, side, 3, 1, 1, groups=side) for side in (64, 128, 128))
        self.pointwise = nn.ModuleList(nn.Conv2d(side, side, 1) for side in (64, 128, 128))
        self.head = nn.Conv2d(128, 19, 1)
        for number, weights in enumerate(self.parameters()):
            drawn = generator(0, REFERENCE, number).normal(size=tuple(weights.shape))
            weights.data = torch.from_numpy(drawn).float() * (2 / max(1, weights[0].numel())) ** 0.5
            weights.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        x = (image.permute(0, 3, 1, 2).float() - 127.5) / 64
        x = self.to_quarter(self.stem(x).relu_()).relu_()
        x = self._block(x, 0)
        x = self.to_eighth(x).relu_()
        x = self._block(self._block(x, 1), 2)
        return self.head(x).max(1)[1].to(torch.uint8)

    def _block(self, x: Tensor, number: int) -> Tensor:
        return x + self.pointwise[number](self.depthwise[number](x).relu_()).relu_()


def reference() -> Contestant:
    """The reference as a contestant of one stage, on the CPU."""
    network = ReferenceNetwork().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = generator(0, REFERENCE, 100).integers(0, 256, (1, *SIZE, 3))
    image = torch.from_numpy(pixels).to(torch.uint8)

    @torch.inference_mode()
    def run(given: Tensor) -> Tensor:
        return network(given)

    about = {"runtime": "torch", "precision": "fp32", "device": "cpu", "size": list(SIZE)}
    return Contestant({STAGE: run}, image, about=about)
