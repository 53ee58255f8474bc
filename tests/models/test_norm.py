"""Batch norm with its ReLU against PyTorch's in float64, and that hooks, eval and odd settings get PyTorch's own."""

import copy

import numba
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.models.norm import batch_moments, batch_norm_activation

TYPES = (torch.float32, torch.bfloat16)
PLAIN = {"relu": F.relu, "relu6": F.relu6}


def norm_and_map(
    seed: int, shape: tuple[int, ...], dtype: torch.dtype, spread: float = 2.0
) -> tuple[nn.BatchNorm2d, Tensor]:
    random = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm2d(shape[1], eps=1e-3, momentum=0.2)
    norm.weight.data = torch.randn(shape[1], generator=random) * 2
    norm.bias.data = torch.randn(shape[1], generator=random) * 2 + 1
    x = torch.randn(shape, generator=random) * spread + torch.randn(shape[1], 1, 1, generator=random)
    return norm, x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def is_compiled(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_NormActivationBackward"


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 24, 170, 513]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    activation=st.sampled_from(["relu", "relu6"]),
    dtype=st.sampled_from(TYPES),
)
def test_values_gradients_and_running_statistics_equal_those_of_pytorch_in_float64(
    seed, batch, channels, size, activation, dtype
) -> None:
    # Few values a channel amplify rounding, in PyTorch as well.
    assume(batch * size[0] * size[1] > 3)
    norm, x = norm_and_map(seed, (batch, channels, *size), dtype)
    exact = copy.deepcopy(norm).double()
    wide = x.detach().double().requires_grad_()
    before = exact(wide)
    expected = PLAIN[activation](before)
    y = batch_norm_activation(norm, x, activation)
    assert is_compiled(y)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    # Which side of a kink rounding takes a value to is left open.
    kinks = torch.minimum(before.detach().abs(), (before.detach() - 6).abs())
    upstream[kinks < (0.03 if dtype == torch.bfloat16 else 1e-4)] = 0
    gradients = torch.autograd.grad(y, (x, norm.weight, norm.bias), upstream)
    theirs = torch.autograd.grad(expected, (wide, exact.weight, exact.bias), upstream.double())
    rounding = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-22
    for ours, reference in zip((y, *gradients[:1]), (expected, *theirs[:1]), strict=True):
        assert ours.dtype == dtype
        allowed = rounding * reference.abs() + 5e-5 * max(1.0, reference.abs().max().item())
        assert ((ours.double() - reference).abs() <= allowed).all()
    for ours, reference in zip(gradients[1:], theirs[1:], strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-4, atol=1e-4)
    for key, value in norm.state_dict().items():
        torch.testing.assert_close(value.double(), exact.state_dict()[key].double(), rtol=1e-5, atol=1e-6)


def test_statistics_of_many_parts_survive_a_mean_far_from_zero() -> None:
    x = (torch.randn(4, 5, 181, 199) + 3000).contiguous(memory_format=torch.channels_last)
    mean, variance = batch_moments(x)
    exact = x.double()
    torch.testing.assert_close(mean.double(), exact.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), exact.var((0, 2, 3), unbiased=False), rtol=1e-4, atol=0)


def test_six_and_what_bfloat16_stores_as_six_pass_no_gradient() -> None:
    norm, x = norm_and_map(0, (2, 1, 40, 50), torch.bfloat16, spread=8.0)
    reference = copy.deepcopy(norm)
    y, expected = batch_norm_activation(norm, x, "relu6"), F.relu6(reference(x))
    assert torch.equal(y, expected)
    ones = torch.ones_like(y)
    (ours,) = torch.autograd.grad(y, norm.bias, ones)
    (theirs,) = torch.autograd.grad(expected, reference.bias, ones)
    # The gradient of the bias counts the values strictly between the kinks.
    assert ours.item() == ((y > 0) & (y < 6)).sum().item()
    assert ours.item() == theirs.item()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("this machine has one core")
    results, threads_before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            norm, x = norm_and_map(3, (2, 24, 70, 90), dtype)
            y = batch_norm_activation(norm, x, "relu6")
            gradients = torch.autograd.grad(y, (x, norm.weight, norm.bias), torch.ones_like(y))
            results.append((y, *gradients, norm.running_mean, norm.running_var))
    finally:
        torch.set_num_threads(threads_before)
    for again in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], again, strict=True))


def test_a_value_that_is_no_number_stays_none() -> None:
    norm, x = norm_and_map(4, (2, 3, 4, 5), torch.float32)
    with torch.no_grad():
        x[0, 1, 2, 2] = float("nan")
    y = batch_norm_activation(norm, x, "relu6")
    assert is_compiled(y)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()


def listened_to(norm: nn.BatchNorm2d) -> None:
    norm.register_forward_hook(lambda module, inputs, output: None)


@pytest.mark.parametrize(
    "change",
    [
        nn.Module.eval,
        listened_to,
        lambda norm: setattr(norm, "momentum", None),
        lambda norm: norm.double(),
        lambda norm: norm.requires_grad_(False),
    ],
    ids=["eval", "hook", "average of all steps", "float64", "nothing to train"],
)
def test_all_else_is_pytorchs_own_to_the_bit(change) -> None:
    norm, x = norm_and_map(5, (2, 3, 6, 7), torch.float32)
    change(norm)
    x = x.detach().to(norm.weight.dtype).requires_grad_(norm.weight.requires_grad)
    reference = copy.deepcopy(norm)
    y, expected = batch_norm_activation(norm, x, "relu6"), F.relu6(reference(x))
    assert not is_compiled(y)
    assert torch.equal(y, expected)
    assert all(map(torch.equal, norm.state_dict().values(), reference.state_dict().values()))


def test_one_value_a_channel_is_refused_as_pytorch_refuses_it() -> None:
    norm, x = norm_and_map(6, (1, 4, 1, 1), torch.float32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        batch_norm_activation(norm, x, "relu")


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    norm, x = norm_and_map(7, (2, 3, 4, 5), torch.float32)
    (gradient,) = torch.autograd.grad(batch_norm_activation(norm, x, "relu").square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
