"""Networks with fresh weights whose labels mean something to a comparison of two runtimes."""

from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network

CLASSES = 7
# The largest teachers are narrowed: the same graph, fewer channels.
NARROWED: dict[str, dict[str, Any]] = {
    "hrnet_w48": {"width": 8},
    "hrnet_w48_ocr": {"width": 8, "ocr_width": 16},
}


def blots(seed: int, count: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth coloured images uint8 ``[count, H, W, 3]``, each with noise over it."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
        made.append(np.clip(smooth + random.integers(-40, 41, (*size, 3)), 0, 255).astype(np.uint8))
    return np.stack(made)


@cache
def lively(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A network and its metadata. Batch norms know the statistics of :func:`blots`, and every class wins somewhere.

    As they are built, most networks blow noise up to logits of 1e6, where no two runtimes agree on 1e-4. Of the deepest
    ones PyTorch's own float32 is 1e-4 of the logits' spread away from float64: that spread is made small here.
    """
    torch.manual_seed(1)
    arguments = NARROWED.get(name, {})
    network = create_model(name, CLASSES, **arguments)
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    about = describe_network(network, name, CLASSES, arguments)
    side = spec.min_size + 33
    images = spec.normalise(torch.from_numpy(blots(0, 4, (side, side))))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    convolutions: list[nn.Conv2d] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: convolutions.append(layer))  # type: ignore[arg-type]
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.no_grad():
        network.train()(images)
        convolutions.clear()
        logits = network.eval()(images).logits
        last = convolutions[-1]
        own = last.out_channels == logits.shape[1]  # else the logits are enlarged behind it
        centre = logits.mean((0, 2, 3)) if own else logits.mean()
        scale = 0.2 / (logits.std((0, 2, 3)) if own else logits.std()).clamp_min(1e-9)
        last.weight *= scale.view(-1, 1, 1, 1)
        if last.bias is not None:
            last.bias.copy_((last.bias - centre) * scale)
    for hook in hooks:
        hook.remove()
    return network, about
