"""Balancing a network: the pixels it is fitted on, its judgement by halves, and where the biases go."""

import numpy as np
import pytest
import torch
from torch import nn

from featherseg.data.labels import IGNORE
from featherseg.data.streets import Streets
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.registry import create_model
from featherseg.training.balance import SampledPixels, add_to_logits, fit_balance, sample_pixels


class Brightness(nn.Module):
    """Logits that are pixels' channels and their differences; without a layer that has a bias."""

    input_spec = InputSpec(output_stride=1)
    logits_prefixes = ("scale",)

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(-1, 1, classes))

    def forward(self, images: torch.Tensor) -> SegmentationOutput:
        return SegmentationOutput(images.mean(1, keepdim=True) * self.scale[None, :, None, None])


def test_every_image_gives_as_many_labelled_pixels_with_their_own_logits():
    scenes = Streets("val", 3, size=(40, 60), seed=0)
    network = Brightness(len(scenes.labels))
    sampled = sample_pixels(network, scenes, pixels=300)
    assert sampled.logits.shape == (300, len(scenes.labels))
    assert np.bincount(sampled.images).tolist() == [100, 100, 100]
    assert (sampled.labels != IGNORE).all()
    again = sample_pixels(network, scenes, pixels=300)
    np.testing.assert_array_equal(again.logits, sampled.logits)
    sample = scenes.read(1)
    grey = network.input_spec.normalise(torch.from_numpy(sample.image)[None]).mean(1)[0].numpy()
    pairs = set(zip(grey[sample.label != IGNORE].tolist(), sample.label[sample.label != IGNORE].tolist(), strict=True))
    found = zip(sampled.logits[100:200, -1].tolist(), sampled.labels[100:200].tolist(), strict=True)
    assert all(any(abs(value - known) < 1e-5 and label == name for known, name in pairs) for value, label in found)


def pixels_of_two_halves(planted: tuple[float, float], seed: int = 0) -> SampledPixels:
    """Ten images of 400 pixels and two classes; what should be added to the second class differs by half."""
    random = np.random.default_rng(seed)
    images = np.repeat(np.arange(10), 400)
    logits = random.normal(size=(4000, 2)).astype(np.float32) * 2
    truth = logits + np.stack([np.zeros(4000), np.where(images < 5, *planted)], 1)
    return SampledPixels(logits, truth.argmax(1), images)


def test_what_holds_for_both_halves_is_a_gain_on_images_that_were_not_fitted():
    fitted = fit_balance(pixels_of_two_halves((1.5, 1.5)))
    assert fitted.biases[1] - fitted.biases[0] == pytest.approx(1.5, abs=0.1)
    assert fitted.held_out_after > fitted.held_out_before + 10
    assert fitted.after >= fitted.held_out_after


def test_what_differs_between_the_halves_is_a_loss_on_images_that_were_not_fitted():
    fitted = fit_balance(pixels_of_two_halves((1.5, -1.5)))
    assert fitted.held_out_after < fitted.held_out_before - 10


def test_one_image_has_no_halves():
    pixels = pixels_of_two_halves((0, 0))
    with pytest.raises(FeathersegError, match="two labelled images or more"):
        fit_balance(SampledPixels(pixels.logits, pixels.labels, np.zeros_like(pixels.images)))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fassd_net_l2", {}),
        ("drbanet", {}),
        ("shufflenet_v2_dpc", {"decoder": True}),
        ("mobilenet_v2_basic", {"head": "pixel_shuffle"}),
        ("fasterseg_student", {}),
        ("fasterseg_student_ps", {}),
    ],
)
def test_the_logits_move_by_the_biases_everywhere_and_by_nothing_else(name, arguments):
    torch.manual_seed(0)
    network = create_model(name, 5, **arguments).eval()
    biases = np.array([0.5, -0.25, 0, 1.5, -1.75], np.float32)
    images = torch.randn(1, 3, 70, 90)
    with torch.inference_mode():
        before = network(images).logits
        add_to_logits(network, biases)
        moved = network(images).logits - before
    torch.testing.assert_close(moved, torch.from_numpy(biases)[None, :, None, None].expand_as(moved), atol=1e-3, rtol=0)


def test_a_network_without_a_bias_at_its_end_is_refused():
    with pytest.raises(FeathersegError, match="give the last layer a bias"):
        add_to_logits(Brightness(3), np.array([1, 0, -1], np.float32))
