"""The losses of detectors against the formulas written out, anchor by anchor."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.losses.detection import focal_loss, multibox_loss, sampled_loss


def smooth(x: float, beta: float) -> float:
    return 0.5 * x * x / beta if abs(x) < beta else abs(x) - 0.5 * beta


def boxes_part(deltas, wanted, classes, beta):
    pairs = [(d, w) for d, w, c in zip(deltas, wanted, classes, strict=True) if c > 0]
    return sum(smooth(a - b, beta) for d, w in pairs for a, b in zip(d, w, strict=True))


def binary(logit: float, truth: float, weigh) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -math.log(p if truth else 1 - p) * weigh(p if truth else 1 - p, truth)


def example(seed: int, scores: int, least: int = -1):
    random = np.random.default_rng(seed)
    classes = random.integers(least, scores + 1, 12)
    return random.normal(0, 2, (12, scores)), *random.normal(0, 0.3, (2, 12, 4)), classes


def tensors(*arrays):
    return tuple(torch.tensor(array) for array in arrays)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), weight=st.sampled_from([1.0, 2.5]))
def test_the_sampled_loss_is_the_mean_over_the_counted_anchors(seed, weight):
    arrays = example(seed, 2)
    scores, deltas, wanted, classes = arrays
    entropy = sum(
        binary(logit, float(c == k + 1), lambda p, t: 1)
        for row, c in zip(scores, classes, strict=True)
        if c >= 0
        for k, logit in enumerate(row)
    )
    expected = (entropy + weight * boxes_part(deltas, wanted, classes, 1 / 9)) / max(1, int((classes >= 0).sum()))
    assert float(sampled_loss(*tensors(*arrays), box_weight=weight)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.0, 2.0]))
def test_the_focal_loss_weighs_by_what_is_missing(seed, gamma):
    arrays = example(seed, 2)
    scores, deltas, wanted, classes = arrays

    def weigh(p, truth):
        return (0.25 if truth else 0.75) * (1 - p) ** gamma

    entropy = sum(
        binary(logit, float(c == k + 1), weigh)
        for row, c in zip(scores, classes, strict=True)
        if c >= 0
        for k, logit in enumerate(row)
    )
    expected = (entropy + boxes_part(deltas, wanted, classes, 1 / 9)) / max(1, int((classes > 0).sum()))
    assert float(focal_loss(*tensors(*arrays), gamma=gamma)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), ratio=st.sampled_from([1.0, 3.0]))
def test_the_multibox_loss_counts_the_hardest_background(seed, ratio):
    arrays = example(seed, 3)
    scores, deltas, wanted, classes = arrays
    classes = np.minimum(classes, 2)
    losses = [math.log(sum(math.exp(s) for s in row)) - row[max(c, 0)] for row, c in zip(scores, classes, strict=True)]
    objects = int((classes > 0).sum())
    background = sorted((x for x, c in zip(losses, classes, strict=True) if c == 0), reverse=True)
    total = sum(x for x, c in zip(losses, classes, strict=True) if c > 0) + sum(background[: int(ratio * objects)])
    expected = (total + boxes_part(deltas, wanted, classes, 1.0)) / max(1, objects)
    got = multibox_loss(*tensors(scores, deltas, wanted, classes), negatives=ratio)
    assert float(got) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("loss", "scores"), [(sampled_loss, 1), (focal_loss, 1), (multibox_loss, 2)])
def test_without_objects_or_counted_anchors_the_loss_is_finite_and_can_be_trained(loss, scores):
    for value in (0, -1):
        logits = torch.zeros(6, scores, requires_grad=True)
        deltas = torch.zeros(6, 4, requires_grad=True)
        found = loss(logits, deltas, torch.zeros(6, 4), torch.full((6,), value))
        found.backward()
        assert found.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        if value < 0:
            assert float(found.detach()) == 0
