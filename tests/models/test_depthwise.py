"""The depthwise convolution against PyTorch's in float64, and that it stays PyTorch's wherever it does not train."""

import subprocess
import sys

import numba
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba.core import caching
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from featherseg.models import kernels
from featherseg.models.depthwise import DepthwiseConv2d

TYPES = (torch.float32, torch.bfloat16)
every_type = pytest.mark.parametrize("dtype", TYPES, ids=str)


def layer_and_map(
    channels: int = 5, size: tuple[int, int] = (7, 9), dtype: torch.dtype = torch.float32, **settings
) -> tuple[DepthwiseConv2d, Tensor]:
    torch.manual_seed(0)
    layer = DepthwiseConv2d(channels, channels, **{"kernel_size": 3, "groups": channels, "bias": False, **settings})
    x = torch.randn(2, channels, *size).to(dtype).contiguous(memory_format=torch.channels_last)
    return layer.to(dtype), x.requires_grad_()


def is_compiled(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_DepthwiseBackward"


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 3, 17, 64, 170, 513]),
    size=pairs(1, 9),
    kernel=pairs(1, 5),
    stride=pairs(1, 3),
    padding=pairs(0, 11),
    dilation=pairs(1, 4),
    bias=st.booleans(),
    dtype=st.sampled_from(TYPES),
)
def test_gradients_equal_those_of_pytorch_in_float64(
    seed, batch, channels, size, kernel, stride, padding, dilation, bias, dtype
) -> None:
    assume(all(size[i] + 2 * padding[i] > dilation[i] * (kernel[i] - 1) for i in (0, 1)))
    random = torch.Generator().manual_seed(seed)
    layer = DepthwiseConv2d(channels, channels, kernel, stride, padding, dilation, channels, bias).to(dtype)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random).to(dtype)
    x = torch.randn(batch, channels, *size, generator=random).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    assert is_compiled(y)
    upstream = torch.randn(y.shape, generator=random).to(dtype)
    wide = [tensor.detach().double().requires_grad_() for tensor in (x, *layer.parameters())]
    expected = F.conv2d(wide[0], wide[1], wide[2] if bias else None, stride, padding, dilation, channels)
    gradients = torch.autograd.grad(y, (x, *layer.parameters()), upstream)
    exact = torch.autograd.grad(expected, wide, upstream.double())
    rounding = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-23
    for ours, theirs in zip((y, *gradients), (expected, *exact), strict=True):
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        if ours is y and channels == 1 and dtype == torch.bfloat16:
            continue  # forward is PyTorch's own conv2d, which can be wrong for one channel of bfloat16
        allowed = rounding * theirs.abs() + 2e-6 * theirs.abs().max()
        assert ((ours.double() - theirs).abs() <= allowed).all()


def test_gradients_equal_numerical_derivatives() -> None:
    layer, x = layer_and_map(2, (4, 5), stride=2, padding=2, dilation=2)
    weights = torch.randn(layer(x).shape)

    def value(at: Tensor, weight: Tensor) -> float:
        return (F.conv2d(at.double(), weight.double(), None, 2, 2, 2, 2) * weights).sum().item()

    gradients = torch.autograd.grad(layer(x), (x, layer.weight), weights)
    for position, tensor in enumerate((x, layer.weight)):
        direction = torch.randn_like(tensor)
        ahead, behind = [x.detach(), layer.weight.detach()], [x.detach(), layer.weight.detach()]
        ahead[position], behind[position] = tensor.detach() + direction, tensor.detach() - direction
        # The function is linear in each, so that the central difference is exact.
        slope = (value(*ahead) - value(*behind)) / 2
        assert (gradients[position] * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 96, 600])
@every_type
def test_the_number_of_threads_changes_no_bit(channels: int, dtype: torch.dtype) -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("this machine has one core")
    layer, x = layer_and_map(channels, (23, 17), dtype, padding=1)
    upstream = torch.randn(x.shape).to(dtype)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(torch.autograd.grad(layer(x), (x, layer.weight), upstream))
            assert numba.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for again in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], again, strict=True))


def test_the_first_compiled_step_leaves_pytorchs_number_of_threads() -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("this machine has one core")
    program = (
        "import torch; torch.set_num_threads(1); from featherseg.models.depthwise import DepthwiseConv2d;"
        "DepthwiseConv2d(2, 2, 1, groups=2)(torch.ones(1, 2, 1, 1)).sum().backward(); print(torch.get_num_threads())"
    )
    # A new process, since only its first call would change the number.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_autocast_computes_in_bfloat16_and_leaves_the_weights_gradient_in_float32() -> None:
    layer, x = layer_and_map(6, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert is_compiled(y)
    assert y.dtype == torch.bfloat16
    upstream = torch.randn(y.shape).bfloat16()
    for_x, for_weight = torch.autograd.grad(y, (x, layer.weight), upstream)
    narrow, weight = (tensor.detach().bfloat16().double().requires_grad_() for tensor in (x, layer.weight))
    exact = torch.autograd.grad(F.conv2d(narrow, weight, None, 1, 1, 1, 6), (narrow, weight), upstream.double())
    assert for_x.dtype == for_weight.dtype == torch.float32
    assert torch.equal(for_x, exact[0].float().bfloat16().float())
    torch.testing.assert_close(for_weight.double(), exact[1], rtol=1e-5, atol=1e-5)


@settings(max_examples=50)
@given(
    weight=st.integers(-(2**15), 2**15 - 1),
    upstream=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=40),
)
def test_bfloat16_is_rounded_to_nearest_even_and_keeps_what_is_no_number(weight: int, upstream: list[int]) -> None:
    layer, _ = layer_and_map(1, dtype=torch.bfloat16, kernel_size=1)
    layer.weight.data = torch.tensor(weight, dtype=torch.int16).view(torch.bfloat16).view(1, 1, 1, 1)
    gradient = torch.tensor(upstream, dtype=torch.int16).view(torch.bfloat16).view(1, 1, 1, -1)
    x = torch.zeros(gradient.shape, dtype=torch.bfloat16, requires_grad=True)
    (ours,) = torch.autograd.grad(layer(x), x, gradient)
    # One product: float32 rounds it once, and the narrowing once more. The sum begins with +0.
    expected = (gradient.float() * layer.weight.detach().float() + 0.0).bfloat16()
    torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)


@every_type
def test_a_gradient_in_another_layout_gives_the_same(dtype: torch.dtype) -> None:
    layer, x = layer_and_map(dtype=dtype)
    y = layer(x)
    expanded = torch.randn(5).to(dtype).view(1, 5, 1, 1).expand(y.shape)
    ours = torch.autograd.grad(y, (x, layer.weight), expanded, retain_graph=True)
    copied = expanded.contiguous(memory_format=torch.channels_last)
    assert all(map(torch.equal, ours, torch.autograd.grad(y, (x, layer.weight), copied)))


def test_the_gradient_of_a_channels_last_map_is_channels_last() -> None:
    layer, x = layer_and_map()
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_frozen_weights_get_no_gradient_and_the_map_its_own() -> None:
    layer, x = layer_and_map()
    layer(x).sum().backward()
    frozen, again = layer_and_map()
    frozen.weight.requires_grad_(False)
    frozen(again).sum().backward()
    assert frozen.weight.grad is None
    assert torch.equal(again.grad, x.grad)  # type: ignore[arg-type]


def test_a_map_changed_before_the_backward_pass_is_refused_rather_than_wrong() -> None:
    layer, x = layer_and_map()
    changed = x * 1
    y = layer(changed)
    changed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    layer, x = layer_and_map()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@pytest.mark.parametrize(
    "arguments", [{}, {"stride": 2, "padding": (1, 0), "bias": True}, {"padding": "same"}], ids=str
)
def test_keys_and_results_are_those_of_conv2d(arguments: dict) -> None:
    layer, x = layer_and_map(4, **arguments)
    plain = nn.Conv2d(4, 4, **{"kernel_size": 3, "groups": 4, "bias": False, **arguments})
    plain.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, x: (layer.double(), x.detach().double().requires_grad_()),
        lambda layer, x: (layer, x.detach().contiguous().requires_grad_()),
        lambda layer, x: (layer.to("meta"), x.detach().to("meta").requires_grad_()),
        lambda layer, x: (layer, x.detach()[:0].requires_grad_()),
    ],
    ids=["float64", "channels first", "meta", "empty"],
)
def test_what_the_kernel_cannot_take_is_pytorchs(change) -> None:
    layer, x = change(*layer_and_map())
    assert type(layer(x).grad_fn).__name__ == "ConvolutionBackward0"


def test_a_counter_sees_the_work_of_conv2d_in_both_passes() -> None:
    layer, x = layer_and_map(4, padding=1)
    plain = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
    counts = []
    for each in (layer, plain):
        with FlopCounterMode(display=False) as counter:
            each(x).sum().backward()
        counts.append(counter.get_flop_counts()["Global"])
    assert counts[0] == counts[1]
    assert len(counts[0]) == 2


def test_export_writes_the_graph_of_conv2d() -> None:
    layer, x = layer_and_map(4, padding=1)
    graph = torch.export.export(layer, (x,)).graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert called == ["aten.conv2d.default"]


def test_tracing_and_function_transforms_see_conv2d() -> None:
    layer, x = layer_and_map(4, padding=1)
    assert "aten::_convolution" in str(torch.jit.trace(layer, x).inlined_graph)  # type: ignore[attr-defined]
    parameters = dict(layer.named_parameters())
    gradient = torch.func.grad(lambda p: torch.func.functional_call(layer, p, x).sum())(parameters)["weight"]
    layer(x).sum().backward()
    torch.testing.assert_close(gradient, layer.weight.grad)


def test_layers_that_are_not_depthwise_are_refused() -> None:
    with pytest.raises(ValueError, match="4 channels to 8 in 4 groups are not depthwise"):
        DepthwiseConv2d(4, 8, 3, groups=4)


def test_an_installation_without_any_writable_folder_compiles_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(kernels.depthwise_backward.py_func)
    assert callable(kernels._kernel(kernels.depthwise_backward.py_func))
