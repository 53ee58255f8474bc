"""The soft Jaccard loss against a plain reckoning, and its edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from featherseg.losses.jaccard import soft_jaccard

IGNORE = 255


def scene(seed: int, classes: int, stride: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    height, width = stride * int(draw.integers(2, 6)), stride * int(draw.integers(2, 6))
    labels = draw.integers(0, classes, (2, height, width)).astype(np.uint8)
    labels[draw.random(labels.shape) < 0.2] = IGNORE
    logits = draw.normal(size=(2, classes, height // stride, width // stride))
    return torch.from_numpy(logits), torch.from_numpy(labels)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from([1, 3]), st.booleans())
def test_equals_a_reckoning_by_loops(seed: int, classes: int, stride: int, align_corners: bool) -> None:
    logits, labels = scene(seed, classes, stride)
    full = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=align_corners)
    probability, truth = torch.softmax(full, 1).numpy(), labels.numpy()
    ratios = []
    for name in range(classes):
        overlap = predicted = true = 0.0
        for position in zip(*np.nonzero(truth != IGNORE), strict=True):
            image, row, column = position
            p, t = probability[image, name, row, column], float(truth[position] == name)
            overlap, predicted, true = overlap + p * t, predicted + p, true + t
        if true:
            ratios.append(overlap / (predicted + true - overlap))
    expected = 1 - np.mean(ratios) if ratios else 0.0
    assert soft_jaccard(logits, labels, align_corners=align_corners).item() == pytest.approx(expected, abs=1e-12)


def test_certain_and_right_costs_nothing_certain_and_wrong_everything() -> None:
    _, labels = scene(0, 3)
    right = 60 * F.one_hot(torch.where(labels == IGNORE, 0, labels).long(), 3).permute(0, 3, 1, 2).double()
    assert soft_jaccard(right, labels, align_corners=False).item() == pytest.approx(0, abs=1e-9)
    assert soft_jaccard(right.roll(1, 1), labels, align_corners=False).item() == pytest.approx(1, abs=1e-9)


def test_gradient_is_that_of_finite_differences_and_none_where_ignored() -> None:
    logits, labels = scene(1, 3)
    logits.requires_grad_()
    torch.autograd.gradcheck(lambda given: soft_jaccard(given, labels, align_corners=False), logits)
    (gradient,) = torch.autograd.grad(soft_jaccard(logits, labels, align_corners=False), logits)
    ignored = (labels == IGNORE)[:, None].expand_as(gradient)
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored] != 0).any()


def test_a_batch_without_labels_has_no_loss_and_a_zero_gradient() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = soft_jaccard(logits, torch.full((1, 4, 4), IGNORE, dtype=torch.uint8), align_corners=False)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert not gradient.any()


def test_half_precision_logits_are_reckoned_in_float32() -> None:
    logits, labels = scene(2, 4)
    half = logits.bfloat16()
    assert soft_jaccard(half, labels, align_corners=True) == soft_jaccard(half.float(), labels, align_corners=True)
