"""Pixel Shuffle prediction: the printed costs, a bilinear start, and the head on any network."""

import pytest
import torch
from synthetic_weights import synthetic_images
from torch import nn
from torch.nn import functional as F

from featherseg.bench.complexity import count
from featherseg.errors import FeathersegError
from featherseg.models.carry import carry_over
from featherseg.models.output import InputSpec
from featherseg.models.pixel_shuffle import PixelShuffleEnlarging, replace_logits
from featherseg.models.registry import create_model
from featherseg.models.weights import build_network, describe_network, read_weights, save_weights


def test_the_student_with_it_costs_what_the_paper_s_layout_measures():
    counted = count("fasterseg_student_ps")
    assert counted.parameters_deployed == 3_308_531
    assert counted.conv_macs / 1e9 == pytest.approx(27.79, abs=0.005)


def test_the_module_costs_what_the_paper_s_formulas_say():
    """Yang et al. 2021, Sec. 5: (11/4)C^2 + NC/2 + 50C convolution parameters, with N classes."""
    width, classes = 128, 19
    network = create_model("fasterseg_student_ps", classes)
    parts = (network.ffm, network.enlarge, network.heads8)
    kernels = sum(layer.weight.numel() for part in parts for layer in part.modules() if isinstance(layer, nn.Conv2d))
    assert kernels == 11 * width**2 // 4 + classes * width // 2 + 50 * width


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3), (8, 12)])
def test_it_starts_as_bilinear_enlarging(size):
    torch.manual_seed(0)
    enlarging = PixelShuffleEnlarging(3).eval()
    x = torch.rand(2, 3, *size)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    with torch.no_grad():
        # Batch norm divides by the root of 1 + its eps.
        torch.testing.assert_close(enlarging(x) * (1 + 1e-5) ** 0.5, expected, rtol=1e-5, atol=1e-6)


def test_a_fresh_student_starts_as_bilinear_enlarging_too():
    network = create_model("fasterseg_student_ps", 2).eval()
    with torch.no_grad():
        features = network.features(synthetic_images(64, 64))
        expected = F.interpolate(features.fused, scale_factor=2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(network.prediction_map(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fassd_net_l1", "drbanet", "mobilenet_v2_basic", "fasterseg_tutor"])
def test_any_network_takes_the_head_by_an_argument(name):
    with torch.device("meta"):
        plain, shuffled = create_model(name, 3), create_model(name, 3, head="pixel_shuffle")
        side = 2 * plain.input_spec.min_size * plain.input_spec.output_stride
        images = torch.empty(1, 3, side, side)
        before, after = plain.eval()(images).logits.shape, shuffled.eval()(images).logits.shape
    assert after == (*before[:2], 2 * before[2], 2 * before[3])
    assert shuffled.input_spec.output_stride * 2 == plain.input_spec.output_stride


def test_the_head_trains_travels_and_carries(tmp_path):
    network = create_model("fassd_net_l2", 3, head="pixel_shuffle")
    network(synthetic_images(64, 64, batch=2)).logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    described = describe_network(network, "fassd_net_l2", 3, {"head": "pixel_shuffle"})
    file = save_weights(tmp_path / "w", network.state_dict(), described)
    loaded, images = build_network(read_weights(file), "w"), synthetic_images(64, 96)
    with torch.no_grad():
        assert torch.equal(loaded(images).logits, network.eval()(images).logits)
    plain = create_model("fassd_net_l2", 5)
    report = carry_over(network, plain.state_dict(), "all_but_logits", where="plain")
    assert all(name.startswith("finalConv.") for name in report.fresh)


def test_an_unknown_head_gets_the_nearest():
    with pytest.raises(FeathersegError, match=r"fassd_net: head is 'pixel_shufle'; did you mean 'pixel_shuffle'"):
        create_model("fassd_net", 2, head="pixel_shufle")


def test_a_network_that_cannot_take_it_says_why():
    network = create_model("fassd_net_l2", 2)
    network.input_spec = InputSpec(output_stride=3)
    with pytest.raises(FeathersegError, match="3 is odd"):
        replace_logits(network, "it")
    network.logits_prefixes = ()
    with pytest.raises(FeathersegError, match="a last 1x1 convolution, and there is none"):
        replace_logits(network, "it")
