"""The pyramid of depthwise convolutions, compiled and plain, against PyTorch's convolutions in float64."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from featherseg.models.layers import PReLU
from featherseg.models.norm_prelu import batch_norm_prelu
from featherseg.models.pyramid_depthwise import NormActivation, PyramidDepthwiseConv2d, pyramid_in_use, usable_on_cpu

TYPES = (torch.float32, torch.bfloat16)
every_type = pytest.mark.parametrize("dtype", TYPES, ids=str)
SHAPES = {
    "seed": st.integers(0, 2**31),
    "batch": st.integers(1, 3),
    "size": st.sampled_from([1, 2, 7, 8, 9, 16, 21, 36]),
    "rates": st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    "map_size": st.tuples(st.integers(1, 40), st.integers(1, 12)),
    "stride": st.sampled_from([1, 2]),
    "dtype": st.sampled_from(TYPES),
}


def reference(x: Tensor, weight: Tensor, stride: int, rates: tuple[int, ...], shared: bool = False) -> Tensor:
    """The definition, in the type of the tensors: each rate's convolution, one after another."""
    size = weight.shape[0] // len(rates)
    outputs = []
    for number, rate in enumerate(rates):
        own = slice(number * size, (number + 1) * size)
        outputs.append(F.conv2d(x if shared else x[:, own], weight[own], None, stride, rate, rate, size))
    return torch.cat(outputs, 1)


def random_map(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)


def close(ours: Tensor, exact: Tensor, dtype: torch.dtype, terms: float = 2e-6) -> None:
    """Equal to one rounding of the type and the rounding of float32 sums."""
    rounding = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-23
    assert ours.shape == exact.shape
    assert ((ours.double() - exact).abs() <= rounding * exact.abs() + terms * exact.abs().max()).all()


def is_compiled(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_PyramidBackward"


@settings(max_examples=60, deadline=None)
@given(**SHAPES)
def test_the_compiled_convolution_and_its_gradients_equal_float64(
    seed, batch, size, rates, map_size, stride, dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    channels = size * len(rates)
    layer = PyramidDepthwiseConv2d(channels, channels, stride, rates).to(dtype)
    layer.weight.data = torch.randn(layer.weight.shape, generator=generator).to(dtype)
    x = random_map(generator, batch, channels, *map_size, dtype=dtype).requires_grad_()
    y = layer(x)
    assert is_compiled(y)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(y.shape, generator=generator).to(dtype)
    wide = [tensor.detach().double().requires_grad_() for tensor in (x, layer.weight)]
    expected = reference(*wide, stride, rates)
    for ours, theirs in zip(
        (y, *torch.autograd.grad(y, (x, layer.weight), upstream)),
        (expected, *torch.autograd.grad(expected, wide, upstream.double())),
        strict=True,
    ):
        assert ours.dtype == dtype
        close(ours, theirs, dtype)


def norms(generator: torch.Generator, channels: int, relu6: bool) -> NormActivation:
    norm = nn.BatchNorm2d(channels, eps=1e-3).eval()
    for tensor, shift in ((norm.weight, 1.0), (norm.bias, 0.0), (norm.running_mean, 0.0)):
        tensor.data = shift + 0.3 * torch.randn(channels, generator=generator)
    norm.running_var = 0.5 + torch.rand(channels, generator=generator)
    slopes = None if relu6 else torch.randn(channels, generator=generator)
    return NormActivation(norm, slopes, 6.0 if relu6 else torch.inf)


def applied(activation: NormActivation, x: Tensor) -> Tensor:
    """In float64."""
    norm = activation.norm
    vectors = [tensor.detach().double() for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)]
    y = F.batch_norm(x, *vectors, eps=norm.eps)
    return y.clamp(0, 6) if activation.slopes is None else F.prelu(y, activation.slopes.double())


@settings(max_examples=60, deadline=None)
@given(**SHAPES, relu6=st.booleans(), has_before=st.booleans())
def test_one_pass_equals_norm_activation_convolution_norm_activation(
    seed, batch, size, rates, map_size, stride, dtype, relu6, has_before
) -> None:
    generator = torch.Generator().manual_seed(seed)
    channels = size * len(rates)
    layer = PyramidDepthwiseConv2d(channels, channels, stride, rates)
    x = random_map(generator, batch, channels, *map_size, dtype=dtype)
    before = norms(generator, channels, relu6) if has_before else None
    after = norms(generator, channels, relu6)
    with torch.inference_mode():
        assert usable_on_cpu(x, layer.weight)
        y = pyramid_in_use(x, before, layer, after)
        exact = x.double() if before is None else applied(before, x.double())
        exact = applied(after, reference(exact, layer.weight.to(dtype).double(), stride, rates))
    assert y.dtype == dtype
    close(y, exact, dtype, terms=1e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_plain_form_is_each_rate_s_convolution(stride, shared) -> None:
    layer = PyramidDepthwiseConv2d(6, 18 if shared else 6, stride, (1, 3, 2)).double()
    x = torch.randn(2, 6, 9, 7).double()
    torch.testing.assert_close(layer(x), reference(x, layer.weight, stride, layer.rates, shared), rtol=0, atol=1e-12)


@every_type
@pytest.mark.parametrize("stride", [1, 2])
def test_rates_that_share_all_channels_have_the_gradients_of_float64(stride, dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = PyramidDepthwiseConv2d(8, 24, stride, (1, 4, 2)).to(dtype)
    x = random_map(generator, 2, 8, 13, 9, dtype=dtype).requires_grad_()
    y = layer(x)
    upstream = torch.randn(y.shape, generator=generator).to(dtype)
    wide = [tensor.detach().double().requires_grad_() for tensor in (x, layer.weight)]
    exact = torch.autograd.grad(reference(*wide, stride, layer.rates, shared=True), wide, upstream.double())
    for ours, theirs in zip(torch.autograd.grad(y, (x, layer.weight), upstream), exact, strict=True):
        # Each rate's share of the map's gradient is rounded before they are added.
        close(ours, theirs, dtype, terms=2e-2 if dtype == torch.bfloat16 else 2e-6)


@pytest.mark.parametrize("rates", [(1,), (3,), (1, 1, 1, 1)], ids=str)
def test_equal_rates_are_one_depthwise_convolution_to_the_bit(rates) -> None:
    layer = PyramidDepthwiseConv2d(8, 8, 1, rates)
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, None, 1, rates[0], rates[0], 8))


@pytest.mark.parametrize(("channels", "out"), [(6, 6), (8, 16), (8, 4)])
def test_channels_that_fit_no_pyramid_are_refused(channels, out) -> None:
    with pytest.raises(ValueError, match="no depthwise convolutions of rates"):
        PyramidDepthwiseConv2d(channels, out, 1, (1, 2, 3, 4))


def test_a_nan_stays_where_it_is_and_a_nan() -> None:
    layer = PyramidDepthwiseConv2d(8, 8, 1, (2,)).bfloat16()
    layer.weight.data.fill_(1)
    x = torch.zeros(1, 8, 7, 7, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    x[0, 3, 3, 3] = float("nan")
    found = layer(x.requires_grad_()).isnan()
    expected = torch.zeros(1, 8, 7, 7, dtype=torch.bool)
    expected[0, 3, 1::2, 1::2] = True
    assert torch.equal(found, expected)


def results(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    layer = PyramidDepthwiseConv2d(32, 32, 1, (1, 2, 3, 4)).to(dtype)
    layer.weight.data = torch.randn(layer.weight.shape, generator=generator).to(dtype)
    x = random_map(generator, 3, 32, 70, 11, dtype=dtype).requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), (x, layer.weight))]


@every_type
def test_results_are_the_same_bits_with_any_number_of_threads(dtype) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results(dtype)
        torch.set_num_threads(2)
        together = results(dtype)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_counters_exports_and_other_layouts_see_pytorch_s_convolutions() -> None:
    layer = PyramidDepthwiseConv2d(8, 8, 1, (1, 2))
    x = torch.randn(1, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 9 * 8 * 36
    assert not is_compiled(layer(x.contiguous()))
    assert not is_compiled(layer.double()(x.double()))
    graph = torch.export.export(layer.float(), (x,)).graph
    assert sum("conv2d" in str(node.target) for node in graph.nodes) == 2


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.sampled_from([1, 3, 24, 600]),
    map_size=st.tuples(st.integers(2, 30), st.integers(2, 9)),
    dtype=st.sampled_from(TYPES),
)
def test_batch_norm_with_prelu_equals_float64_in_value_gradients_and_statistics(seed, channels, map_size, dtype):
    generator = torch.Generator().manual_seed(seed)
    norm, prelu = nn.BatchNorm2d(channels), PReLU(channels)
    for parameter in (norm.weight, norm.bias, prelu.weight):
        parameter.data = torch.randn(channels, generator=generator)
    x = random_map(generator, 2, channels, *map_size, dtype=dtype).requires_grad_()
    parameters = (x, norm.weight, norm.bias, prelu.weight)
    wide = [tensor.detach().double().requires_grad_() for tensor in parameters]
    mean, variance = torch.zeros(channels).double(), torch.ones(channels).double()
    expected = F.prelu(F.batch_norm(wide[0], mean, variance, wide[1], wide[2], True), wide[3])
    y = batch_norm_prelu(norm, prelu, x)
    assert type(y.grad_fn).__name__ == "_NormPReLUBackward"
    upstream = torch.randn(y.shape, generator=generator).to(dtype)
    exact = torch.autograd.grad(expected, wide, upstream.double())
    # What lies within rounding of zero may be passed with either slope.
    assume((expected.detach().abs() > 1e-5 * expected.detach().abs().max()).all())
    close(y, expected.detach(), dtype, terms=2e-5)
    for ours, theirs in zip(torch.autograd.grad(y, parameters, upstream), exact, strict=True):
        close(ours, theirs, dtype, terms=4e-5)
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-5, atol=1e-6)
