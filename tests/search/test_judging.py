"""Batch norms that are set anew for the network that is judged."""

import pytest
import torch
from torch import nn

from featherseg.search.judging import SupernetOutput, recalibrated
from featherseg.search.space import STUDENT, SearchSpace
from featherseg.search.supernet import Supernet, Widths

SPACE = SearchSpace(layers=4, base=3, widths=(4, 12), roles=(STUDENT,))


@pytest.fixture
def supernet() -> Supernet:
    torch.manual_seed(0)
    network = Supernet(SPACE, 3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics of nothing in particular
            layer.running_mean.uniform_(-3, 3)  # type: ignore[union-attr]
            layer.running_var.uniform_(1, 5)  # type: ignore[union-attr]
    return network


@pytest.fixture
def widths(supernet: Supernet) -> Widths:
    return supernet.likeliest_widths(0)


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 64, 64, generator=generator) for _ in range(3)]


def test_statistics_are_plain_means_over_the_batches(supernet, widths):
    own = recalibrated(supernet, 0, widths, batches())
    seen: dict[nn.Module, list[torch.Tensor]] = {}
    norms = [layer for layer in own.modules() if isinstance(layer, nn.BatchNorm2d)]
    hooks = [
        norm.register_forward_pre_hook(lambda norm, given: seen.setdefault(norm, []).append(given[0])) for norm in norms
    ]
    own.train()
    kept = {norm: (norm.running_mean.clone(), norm.running_var.clone()) for norm in norms}  # type: ignore[union-attr]
    with torch.no_grad():
        for images in batches():
            own(images, 0, widths)
    for hook in hooks:
        hook.remove()
    assert len(seen) > 20
    for norm, inputs in seen.items():
        mean = torch.stack([one.mean((0, 2, 3)) for one in inputs]).mean(0)
        variance = torch.stack([one.transpose(0, 1).flatten(1).var(1) for one in inputs]).mean(0)
        torch.testing.assert_close(kept[norm][0], mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(kept[norm][1], variance, rtol=1e-4, atol=1e-5)


def test_the_supernet_itself_is_left_as_it_is(supernet, widths):
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    own = recalibrated(supernet, 0, widths, batches())
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert not own.training


def test_what_is_judged_is_one_output_of_the_recalibrated_network(supernet, widths):
    own, images = recalibrated(supernet, 0, widths, batches()), batches()[0]
    with torch.no_grad():
        every = own(images, 0, widths)
        from_8, from_both = (SupernetOutput(own, 0, widths, name)(images).logits for name in ("0", "12"))
    assert any(torch.equal(from_8, one) for one in every)
    assert any(torch.equal(from_both, one) for one in every)
    assert not torch.equal(from_8, from_both)
