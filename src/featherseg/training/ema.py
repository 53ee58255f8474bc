"""Exponential moving average of a network's weights: what is judged and shipped."""

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Averages every floating tensor of the state (batch statistics too); integer buffers are copied.

    The decay at update t is ``min(decay, (1 + t) / (10 + t))``, so that the random start is forgotten quickly.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after update ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                averaged.append(self.state[name])
                current.append(tensor.detach())
            else:
                self.state[name].copy_(tensor)
        torch._foreach_lerp_(averaged, current, 1 - decay)  # type: ignore[attr-defined]
