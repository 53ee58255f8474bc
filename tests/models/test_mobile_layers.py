"""Padding rules and strides turned into rates, against definitions worked out pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.models.mobile_layers import (
    ConvBN,
    HalvingMaxPool,
    LayerStyle,
    input_spec,
    same_padding,
    strides_and_rates,
)

lengths = st.integers(1, 13)
TF_SAME = LayerStyle("tf_same")


def least_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's definition by search: the least total that gives ceil(length / stride) windows, the rest after."""
    windows = -(-length // stride)
    total = next(t for t in range(99) if length + t >= kernel and (length + t - kernel) // stride + 1 >= windows)
    return total // 2, total - total // 2


def windows_of(image: np.ndarray, kernel: int, stride: int, fill: float) -> np.ndarray:
    """Every window ``[h, w, kernel, kernel]`` of ``image`` under SAME padding with ``fill``."""
    padded = np.pad(image, [least_padding(length, kernel, stride) for length in image.shape], constant_values=fill)
    rows, columns = (-(-length // stride) for length in image.shape)
    return np.array(
        [
            [padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel] for j in range(columns)]
            for i in range(rows)
        ]
    )


@given(st.integers(1, 400), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]))
def test_same_padding_is_the_least_that_keeps_every_window(length, kernel, stride):
    if kernel >= stride:
        assert same_padding(length, kernel, stride) == least_padding(length, kernel, stride)


@settings(max_examples=40)
@given(lengths, lengths, st.sampled_from([3, 5]), st.sampled_from([1, 2]), st.integers(0, 99))
def test_a_convolution_pads_same_pixel_by_pixel(height, width, kernel, stride, seed):
    random = np.random.default_rng(seed)
    image, weight = random.normal(size=(height, width)), random.normal(size=(kernel, kernel))
    layer = ConvBN(1, 1, kernel, stride, style=TF_SAME, activate=False).double().eval()
    layer.conv.weight.data[0, 0] = torch.from_numpy(weight)
    with torch.no_grad():
        ours = layer(torch.from_numpy(image)[None, None])[0, 0].numpy()
    expected = (windows_of(image, kernel, stride, 0.0) * weight).sum((2, 3)) / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@settings(max_examples=40)
@given(lengths, lengths, st.integers(0, 99))
def test_max_pooling_pads_same_with_minus_infinity(height, width, seed):
    image = np.random.default_rng(seed).normal(-5, 1, (height, width))  # below zero, so that zeros would win
    ours = HalvingMaxPool("tf_same")(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_array_equal(ours, windows_of(image, 3, 2, -np.inf).max((2, 3)))


@pytest.mark.parametrize("size", [(9, 13), (1, 1), (17, 3)], ids=str)
def test_the_two_rules_agree_on_odd_sizes(size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    assert torch.equal(HalvingMaxPool("tf_same")(x), HalvingMaxPool("symmetric")(x))
    same, symmetric = (ConvBN(3, 4, 3, 2, style=LayerStyle(rule)).eval() for rule in ("tf_same", "symmetric"))
    same.load_state_dict(symmetric.state_dict())
    torch.testing.assert_close(same(x), symmetric(x))


def test_the_two_rules_differ_on_even_sizes():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert HalvingMaxPool("tf_same")(x).flatten().tolist() == [10.0, 11.0, 14.0, 15.0]
    assert HalvingMaxPool("symmetric")(x).flatten().tolist() == [5.0, 7.0, 13.0, 15.0]


def test_activations_follow_the_style():
    x = torch.tensor([-1.0, 3.0, 9.0]).view(1, 1, 1, 3)

    def through(style: LayerStyle, activate: bool = True) -> list[float]:
        layer = ConvBN(1, 1, style=style, activate=activate).eval()
        torch.nn.init.ones_(layer.conv.weight)
        return [round(value) for value in layer(x).flatten().tolist()]

    assert through(LayerStyle()) == [0, 3, 9]
    assert through(LayerStyle(relu6=True)) == [0, 3, 6]
    assert through(LayerStyle(relu6=True), activate=False) == [-1, 3, 9]


def test_a_dilated_convolution_has_a_rate_for_each_axis():
    layer = ConvBN(1, 1, 3, 1, (1, 6), style=LayerStyle())
    x = torch.zeros(1, 1, 15, 15)
    x[0, 0, 7, 7] = 1
    touched = F.conv2d(x, torch.ones_like(layer.conv.weight), None, 1, layer.conv.padding, layer.conv.dilation)[0, 0]
    assert touched.shape == (15, 15)
    assert {tuple(place) for place in touched.nonzero().tolist()} == {(i, j) for i in (6, 7, 8) for j in (1, 7, 13)}


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (32, [(2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (2, 1), (2, 1), (1, 1)]),
        (16, [(2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 2)]),
        (8, [(2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 2), (1, 4)]),
    ],
)
def test_strides_beyond_the_target_become_rates_of_the_layers_after(output_stride, expected):
    assert strides_and_rates([2, 2, 1, 2, 1, 2, 2, 1], output_stride) == expected


@pytest.mark.parametrize("value", [4, 0, -8, 64, 16.0, "16", True, None])
def test_another_output_stride_is_refused(value):
    with pytest.raises(FeathersegError, match=r"output_stride is .*; it must be 8, 16 or 32"):
        strides_and_rates([2], value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "same"}, "padding is 'same'.*tf_same"),
        ({"eps": 0}, "eps"),
        ({"momentum": 1.5}, "momentum"),
        ({"momentum": "fast"}, "momentum"),
    ],
    ids=str,
)
def test_a_wrong_style_is_refused(arguments, message):
    with pytest.raises(FeathersegError, match=message):
        LayerStyle(**arguments)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("unit", lambda x: x * (2 / 255) - 1),
        ("lite", lambda x: (x - 127) / 128),
        ("imagenet", lambda x: (x / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])),
    ],
)
def test_each_normalisation_is_its_formula(name, formula):
    pixels = torch.arange(0, 256, dtype=torch.uint8).repeat(3).reshape(1, 16, 16, 3)
    expected = formula(pixels.float()).permute(0, 3, 1, 2)
    torch.testing.assert_close(input_spec(name, 16).normalise(pixels), expected, rtol=0, atol=2e-6)


def test_an_unknown_normalisation_gets_the_nearest():
    with pytest.raises(FeathersegError, match="did you mean 'imagenet'"):
        input_spec("image_net", 16)
