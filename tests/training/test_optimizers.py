"""Weight-decay groups, base rates, and optimiser state by parameter name."""

import pytest
import torch
from tiny_task import TinyNet

from featherseg.recipes.schema import Optimizer
from featherseg.training.optimizers import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)


def by_name(network: torch.nn.Module, optimizer: torch.optim.Optimizer, key: str) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(p)]: group[key] for group in optimizer.param_groups for p in group["params"]}


def test_all_parameters_decay_as_published_batch_norm_prelu_and_bias_included() -> None:
    network = TinyNet()
    decays = by_name(network, build_optimizer(network, Optimizer(weight_decay=0.1)), "weight_decay")
    assert set(decays) == {name for name, _ in network.named_parameters()}
    assert set(decays.values()) == {0.1}


def test_kernels_alone_decay_where_the_recipe_says_so() -> None:
    network = TinyNet()
    decays = by_name(network, build_optimizer(network, Optimizer(weight_decay=0.1, decay="kernels")), "weight_decay")
    assert {name for name, decay in decays.items() if decay} == {"base.0.weight", "head.weight"}


def test_depthwise_kernels_are_spared_where_the_recipe_says_so() -> None:
    """Of a stem, a depthwise and a grouped convolution, a pointwise one with bias and batch norm."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.Conv2d(4, 8, 3, groups=4),
        torch.nn.Conv2d(8, 8, 3, groups=2),
        torch.nn.BatchNorm2d(8),
        torch.nn.Conv2d(8, 3, 1),
    )
    settings = Optimizer(weight_decay=0.1, decay="kernels_but_depthwise")
    decays = by_name(network, build_optimizer(network, settings), "weight_decay")
    assert {name for name, decay in decays.items() if decay} == {"0.weight", "2.weight", "4.weight"}
    assert len(decays) == len(list(network.parameters()))


def test_adams_decay_is_coupled_and_adamws_is_not() -> None:
    """Two steps of one weight by hand, as Kingma and Ba 2015 print Adam; Loshchilov and Hutter 2019 for AdamW."""
    for kind in ("adam", "adamw"):
        layer = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        torch.nn.init.constant_(layer.weight, 2.0)
        optimizer = build_optimizer(layer, Optimizer(kind=kind, lr=0.1, weight_decay=0.5, decay="kernels"))
        weight, m, v = 2.0, 0.0, 0.0
        for step, slope in enumerate((0.25, -3.0), start=1):
            layer.weight.grad = torch.full((1, 1), slope, dtype=torch.float64)
            optimizer.step()
            gradient = slope + (0.5 * weight if kind == "adam" else 0.0)
            weight *= 1.0 if kind == "adam" else 1 - 0.1 * 0.5
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            weight -= 0.1 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)) ** 0.5 + 1e-8)
            assert layer.weight.item() == pytest.approx(weight, rel=1e-12)


def test_the_encoder_has_its_own_rate_and_the_schedule_scales_both() -> None:
    network = TinyNet()
    optimizer = build_optimizer(network, Optimizer(lr=0.2, encoder_lr_scale=0.1))
    set_learning_rate(optimizer, 0.5)
    set_learning_rate(optimizer, 0.25)  # of the base rate, not of the last
    rates = by_name(network, optimizer, "lr")
    assert rates["base.0.weight"] == pytest.approx(0.2 * 0.1 * 0.25)
    assert rates["head.bias"] == pytest.approx(0.2 * 0.25)


def test_a_network_may_name_its_encoder_otherwise() -> None:
    network = TinyNet()
    network.encoder_prefixes = ("head.",)  # type: ignore[assignment]
    rates = by_name(network, build_optimizer(network, Optimizer(lr=0.2, encoder_lr_scale=0.1)), "lr")
    assert rates["head.bias"] == pytest.approx(0.02)
    assert rates["base.0.weight"] == pytest.approx(0.2)


def test_frozen_parameters_are_left_out() -> None:
    network = TinyNet()
    network.base.requires_grad_(False)
    assert set(by_name(network, build_optimizer(network, Optimizer()), "lr")) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    "settings",
    [
        Optimizer(nesterov=True),
        Optimizer(momentum=0.0),
        Optimizer(kind="adamw", decay="kernels"),
        Optimizer(kind="adam"),
    ],
    ids=["nesterov", "plain", "adamw", "adam"],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_state_put_back_goes_on_to_the_same_bits(settings: Optimizer, layout: torch.memory_format) -> None:
    def advance(network: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            generator = torch.Generator().manual_seed(step)
            network(torch.randn(2, 3, 8, 8, generator=generator)).logits.square().mean().backward()
            optimizer.step()

    torch.manual_seed(0)
    network = TinyNet().to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = build_optimizer(network, settings)
    advance(network, optimizer, range(3))
    saved, weights = optimizer_tensors(optimizer, network), network.state_dict()
    saved = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in saved.items()}
    other = TinyNet().to(memory_format=layout)  # type: ignore[call-overload]
    other.load_state_dict(weights)
    resumed = build_optimizer(other, settings)
    load_optimizer_tensors(resumed, other, saved)
    advance(network, optimizer, range(3, 6))
    advance(other, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_the_names_of_the_state_are_those_of_the_parameters() -> None:
    network = TinyNet()
    optimizer = build_optimizer(network, Optimizer(kind="adamw"))
    network(torch.randn(1, 3, 8, 8)).logits.mean().backward()
    optimizer.step()
    names = {f"{n}/{kind}" for n, _ in network.named_parameters() for kind in ("step", "exp_avg", "exp_avg_sq")}
    assert set(optimizer_tensors(optimizer, network)) == names
