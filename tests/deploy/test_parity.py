"""The gate: which differences it lets pass, and what it shows a program."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from featherseg.deploy.parity import EXCUSED, TOGETHER, compare, noise_pictures
from featherseg.models.output import InputSpec, SegmentationOutput


class TwoClasses(nn.Module):
    """Class 1 where red is above ``threshold`` of 255; the distance of the logits is the distance from it."""

    def __init__(self, threshold: float, scale: float = 1.0) -> None:
        super().__init__()
        self.input_spec = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), output_stride=1)
        self.threshold, self.scale = threshold / 255, scale

    def forward(self, images):
        red = self.scale * (images[:, :1] - self.threshold)
        return SegmentationOutput(torch.cat([torch.zeros_like(red), red], 1))


def red(*values: int) -> np.ndarray:
    image = np.zeros((1, len(values), 3), np.uint8)
    image[0, :, 0] = values
    return image


def above(image: np.ndarray, channel: int = 0) -> np.ndarray:
    return (image[..., channel] > 100).astype(np.uint8)


def test_a_difference_where_the_logits_are_clear_fails_the_float32_gate():
    image = red(0, 99, 101, 255)
    parity = compare(TwoClasses(100), lambda picture: np.array([[0, 0, 1, 0]]), [("a", image)], "fp32")
    assert (parity.passed, parity.different, parity.ties) == (False, 1, 0)
    assert [(item.row, item.column, item.expected, item.given) for item in parity.where] == [(0, 3, 1, 0)]


def test_a_difference_at_a_tie_passes_the_float32_gate():
    image = red(0, 100, 255)
    parity = compare(TwoClasses(100.001), lambda picture: np.array([[0, 1, 1]]), [("a", image)], "fp32")
    assert (parity.passed, parity.different, parity.ties, parity.where) == (True, 1, 1, ())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_wrong_program_does_not_pass_because_the_logits_are_small(precision):
    pictures = list(noise_pictures((40, 50)))
    parity = compare(TwoClasses(100, 1e-7), lambda picture: above(picture, 2), pictures, precision)
    assert parity.different > parity.pixels / 3
    assert not parity.passed


def test_a_right_program_passes_though_the_logits_are_small():
    parity = compare(TwoClasses(100.5, 1e-7), above, noise_pictures((40, 50)), "fp32")
    assert (parity.passed, parity.different) == (True, 0)


@given(ties=st.integers(0, 12))
def test_of_ties_that_differ_a_thousandth_is_excused(ties):
    image = red(*[0] * 4900, *[100] * 100)
    labels = np.zeros((1, 5000), int)
    labels[0, 4900 : 4900 + ties] = 1
    parity = compare(TwoClasses(100.001), lambda picture: labels, [("a", image)], "fp32")
    assert EXCUSED * 5000 == 5
    assert (parity.passed, parity.different, parity.ties) == (ties <= 5, ties, ties)
    assert len(parity.where) == (0 if parity.passed else 5)


@given(wrong=st.integers(0, 100))
def test_int8_passes_from_ninety_five_percent_of_equal_pixels_on(wrong):
    image = red(*[0] * 100)
    labels = np.zeros((1, 100), int)
    labels[0, :wrong] = 1
    parity = compare(TwoClasses(100), lambda picture: labels, [("a", image)], "int8")
    assert parity.passed is (wrong <= 5)
    assert parity.agreement == pytest.approx(1 - wrong / 100)


def of_the_first(images: np.ndarray) -> np.ndarray:
    """A program that gives every image of several what the first one gets."""
    return np.repeat(above(images[:1]), len(images), 0)


@pytest.mark.parametrize("at_once", [2, TOGETHER, 7])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_program_that_is_wrong_with_several_images_alone_is_found_out(count, at_once):
    picture = next(noise_pictures((23, 31)))[1]
    pictures = [(str(number), np.roll(picture, number, 2)) for number in range(count)]
    parity = compare(TwoClasses(100.5), above, pictures, "fp32", batch_of=of_the_first, at_once=at_once)
    assert not parity.passed
    assert (parity.pictures, parity.batches) == (count, (1, at_once))


def test_every_size_is_shown_several_different_pictures_at_once():
    given_images = []

    def several(images: np.ndarray) -> np.ndarray:
        given_images.append(images)
        return above(images)

    pictures = [*noise_pictures((23, 31)), *noise_pictures((16, 9))]
    parity = compare(TwoClasses(100.5), above, pictures, "fp32", batch_of=several)
    assert parity.passed
    assert [images.shape for images in given_images] == [(4, 23, 31, 3), (4, 16, 9, 3)]
    assert all(len({image.tobytes() for image in images}) == TOGETHER for images in given_images)
