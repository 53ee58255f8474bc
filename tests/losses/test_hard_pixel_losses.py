"""OHEM and the bootstrapped cross-entropy against slow, literal oracles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featherseg.losses.cross_entropy import IGNORE, bootstrapped, ohem

# A few values again and again, so that ties and losses at the very threshold are common.
values = st.one_of(st.sampled_from([0.0, 0.3, 0.35, 1.0]), st.floats(0.0, 5.0, width=32))
maps = hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=values)


def literal_bootstrapped(losses: np.ndarray, k: int, threshold: float) -> float:
    """The published words: sort; if the value at index K exceeds the threshold, all above it; else the first K."""
    means = []
    for image in losses:
        falling = sorted((float(v) for v in image.ravel()), reverse=True)
        hard = [v for v in falling if v > threshold]
        chosen = hard if len(falling) > k and falling[k] > threshold else falling[:k]
        means.append(sum(chosen) / len(chosen))
    return sum(means) / len(means)


def literal_ohem(losses: np.ndarray, labels: np.ndarray, threshold: float, min_kept: int) -> float:
    """All labelled pixels with p < threshold; at least the hardest ``min_kept`` (and whatever ties with the last)."""
    falling = sorted((float(v) for v, label in zip(losses.ravel(), labels.ravel(), strict=True) if label != IGNORE))[
        ::-1
    ]
    if not falling:
        return 0.0
    last = falling[min(min_kept, len(falling)) - 1]
    chosen = [v for v in falling if v >= last or v >= np.float32(-math.log(np.float32(threshold)))]
    return sum(chosen) / len(chosen)


@settings(max_examples=150)
@given(losses=maps, k=st.integers(1, 40), threshold=st.sampled_from([0.3, 0.0, 2.0]))
def test_bootstrapped_equals_the_literal_rule(losses: np.ndarray, k: int, threshold: float) -> None:
    threshold = float(np.float32(threshold))
    ours = bootstrapped(torch.from_numpy(losses), min_kept=k, threshold=threshold)
    assert ours.item() == pytest.approx(literal_bootstrapped(losses, k, threshold), rel=1e-5, abs=1e-6)


def test_bootstrapped_has_the_published_constants_by_default() -> None:
    random = np.random.default_rng(0)
    for scale in (0.2, 4.0):  # few losses above 0.3, and more than 4096 of them
        losses = (random.random((2, 100, 90)) ** 4 * scale).astype(np.float32)
        assert (np.count_nonzero(losses[0] > 0.3) > 4096) == (scale > 1)
        ours = bootstrapped(torch.from_numpy(losses)).item()
        assert ours == pytest.approx(literal_bootstrapped(losses, 4096, 0.3), rel=1e-5)


def test_bootstrapped_gradient_goes_to_the_kept_pixels_alone_in_equal_shares() -> None:
    losses = torch.tensor([[[5.0, 0.1, 4.0, 0.2]], [[3.0, 3.5, 1.0, 0.1]]], requires_grad=True)
    bootstrapped(losses, min_kept=2, threshold=0.3).backward()
    expected = torch.tensor([[[1 / 4, 0, 1 / 4, 0]], [[1 / 6, 1 / 6, 1 / 6, 0]]])
    torch.testing.assert_close(losses.grad, expected)


def test_bootstrapped_of_a_batch_without_labels_is_zero_with_a_finite_gradient() -> None:
    losses = torch.zeros(2, 80, 80, requires_grad=True)
    loss = bootstrapped(losses)
    loss.backward()
    assert loss.item() == 0.0
    assert losses.grad is not None
    assert losses.grad.isfinite().all()


@settings(max_examples=150)
@given(losses=maps, seed=st.integers(0, 99), kept=st.integers(1, 40), threshold=st.sampled_from([0.7, 0.5, 1.0]))
def test_ohem_equals_the_literal_rule(losses: np.ndarray, seed: int, kept: int, threshold: float) -> None:
    labels = np.where(np.random.default_rng(seed).random(losses.shape) < 0.3, IGNORE, 1).astype(np.uint8)
    losses = np.where(labels == IGNORE, np.float32(0.0), losses)
    ours = ohem(torch.from_numpy(losses), torch.from_numpy(labels), threshold=threshold, min_kept=kept)
    assert ours.item() == pytest.approx(literal_ohem(losses, labels, threshold, kept), rel=1e-5, abs=1e-6)


def test_ohem_of_a_batch_without_labels_is_zero_with_a_zero_gradient() -> None:
    losses = torch.zeros(1, 4, 4, requires_grad=True)
    loss = ohem(losses, torch.full((1, 4, 4), IGNORE, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(losses.grad, torch.zeros(1, 4, 4))  # type: ignore[arg-type]
