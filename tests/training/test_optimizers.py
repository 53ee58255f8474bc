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
    [Optimizer(nesterov=True), Optimizer(momentum=0.0), Optimizer(kind="adamw", decay="kernels")],
    ids=["nesterov", "plain", "adamw"],
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
