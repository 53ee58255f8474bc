"""The averaged weights against a slow average in float64."""

import torch
from tiny_task import TinyNet
from torch import nn

from featherseg.training.ema import ExponentialMovingAverage


def test_the_average_follows_the_formula_with_its_warm_up() -> None:
    torch.manual_seed(0)
    network = TinyNet()
    ema = ExponentialMovingAverage(network, 0.9)
    slow = {name: tensor.double() for name, tensor in network.state_dict().items()}
    for step in range(120):  # (1 + t) / (10 + t) passes 0.9 at t = 80
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape))
            else:
                tensor.add_(1)
        ema.update(network, step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            averaged = decay * slow[name] + (1 - decay) * tensor.double()
            slow[name] = averaged if tensor.is_floating_point() else tensor.double()
    for name, tensor in ema.state.items():
        torch.testing.assert_close(tensor.double(), slow[name], rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_averaged_and_counters_copied() -> None:
    network = nn.BatchNorm2d(2)
    ema = ExponentialMovingAverage(network, 0.5)
    network.running_mean.fill_(3.0)  # type: ignore[union-attr]
    network.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    ema.update(network, 100)
    assert ema.state["running_mean"].tolist() == [1.5, 1.5]
    assert int(ema.state["num_batches_tracked"]) == 7


def test_the_network_itself_is_left_alone() -> None:
    network = nn.Linear(2, 2)
    before = network.weight.detach().clone()
    ema = ExponentialMovingAverage(network, 0.5)
    ema.state["weight"].add_(1.0)
    ema.update(network, 0)
    assert torch.equal(network.weight, before)
