"""Weights that are the same on every platform: a function of (name, shape) by numpy's Philox, not by torch's generator.

Every tensor is perturbed, running statistics and PReLU slopes included, so that no layer is close to the identity and
a slip in any of them moves the logits.
"""

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featherseg.models.registry import create_model


def synthetic_tensor(name: str, shape: torch.Size, seed: int = 0) -> Tensor:
    """Values for the tensor ``name`` of the HarDNet and FASSD-Net families, of the scale they have after training."""
    random = np.random.Generator(np.random.Philox([seed, zlib.crc32(name.encode())]))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    if name.endswith("running_mean"):
        values = random.normal(0, 0.2, shape)
    elif name.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif name.endswith("acti.weight"):
        values = random.uniform(-0.3, 0.6, shape)
    elif len(shape) > 1:
        # The features before the last layer have grown to about 50, and trained logits stay near 20.
        gain = 0.3 if name == "finalConv.weight" else 2**0.5
        values = random.normal(0, gain / np.prod(shape[1:]) ** 0.5, shape)
    elif name.endswith("bias"):
        values = random.normal(0, 0.2, shape)
    else:
        values = random.uniform(0.6, 1.4, shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def synthetic_images(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """Normalised images ``[B, 3, H, W]``: noise on a coarse pattern."""
    random = np.random.Generator(np.random.Philox([seed, height, width]))
    coarse = random.normal(0, 1, (batch, 3, -(-height // 16), -(-width // 16)))
    pattern = coarse.repeat(16, 2).repeat(16, 3)[:, :, :height, :width]
    return torch.from_numpy((pattern + random.normal(0, 0.5, pattern.shape)).astype(np.float32))


def synthetic_network(name: str, num_classes: int = 19, seed: int = 0, **arguments: Any) -> nn.Module:
    """The network ``name`` with synthetic weights, in ``eval()``."""
    with torch.device("meta"):
        network = create_model(name, num_classes, **arguments)
    state = {key: synthetic_tensor(key, tensor.shape, seed) for key, tensor in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval()
