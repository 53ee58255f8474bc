"""The compiled cross-entropy against PyTorch's in float64, and what it does with faulty numbers.

Labels are below K or 255: the readers guarantee it. One that is neither must still not read foreign memory.
"""

import os
import subprocess
import sys

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import caching
from torch import Tensor
from torch.nn import functional as F

from featherseg.losses import fused
from featherseg.losses.cross_entropy import IGNORE, pixel_cross_entropy


def oracle(logits: Tensor, labels: Tensor, align_corners: bool, smoothing: float, weights: Tensor | None) -> Tensor:
    full = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=align_corners)
    losses = F.cross_entropy(full, labels.long(), ignore_index=IGNORE, reduction="none", label_smoothing=smoothing)
    if weights is None:
        return losses
    return losses * torch.cat([weights.double(), torch.zeros(256 - len(weights)).double()])[labels.long()]


def mean_over_labelled(losses: Tensor, labels: Tensor) -> Tensor:
    return losses.sum() / (labels != IGNORE).sum().clamp(min=1)


def draw(seed: int, batch: int, classes: int, small: tuple[int, int], large: tuple[int, int], reach: float):
    random = torch.Generator().manual_seed(seed)
    logits = (torch.rand(batch, classes, *small, generator=random) * 2 - 1) * reach
    labels = torch.randint(0, classes, (batch, *large), generator=random).to(torch.uint8)
    labels[torch.rand(batch, *large, generator=random) < 0.2] = IGNORE
    return logits, labels, torch.rand(batch, *large, generator=random)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 2),
    classes=st.integers(1, 7),
    small=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    large=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    reach=st.sampled_from([0.0, 3.0, 80.0]),
    align_corners=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    weighted=st.booleans(),
)
def test_value_and_gradient_equal_those_of_pytorch_in_float64(
    seed, batch, classes, small, large, reach, align_corners, smoothing, weighted
) -> None:
    logits, labels, upstream = draw(seed, batch, classes, small, large, reach)
    weights = torch.linspace(0.5, 2.0, classes) if weighted else None
    exact = logits.double().requires_grad_()
    expected = oracle(exact, labels, align_corners, smoothing, weights)
    expected.backward(upstream.double())
    ours = logits.clone().requires_grad_()
    losses = pixel_cross_entropy(
        ours, labels, align_corners=align_corners, class_weights=weights, label_smoothing=smoothing
    )
    losses.backward(upstream)
    assert exact.grad is not None
    assert ours.grad is not None
    # float32 keeps a logit of 80 to 4e-6; a loss is a difference of two, a gradient sums them over the pixels it serves
    torch.testing.assert_close(losses.double(), expected, rtol=2e-6, atol=2e-6 + 5e-7 * reach)
    pixels = max(1.0, large[0] * large[1] / (small[0] * small[1]))
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-5, atol=(1e-6 + 3e-7 * reach) * pixels)


@pytest.mark.parametrize("align_corners", [True, False])
def test_at_a_real_stride_the_gradient_of_the_mean_is_exact_to_rounding(align_corners: bool) -> None:
    logits, labels, _ = draw(3, 2, 11, (23, 30), (90, 120), 6.0)
    exact = logits.double().requires_grad_()
    full = F.interpolate(exact, size=(90, 120), mode="bilinear", align_corners=align_corners)
    F.cross_entropy(full, labels.long(), ignore_index=IGNORE).backward()
    ours = logits.clone().requires_grad_()
    mean_over_labelled(pixel_cross_entropy(ours, labels, align_corners=align_corners), labels).backward()
    assert exact.grad is not None
    assert ours.grad is not None
    assert (ours.grad - exact.grad).abs().max() < 2e-6 * exact.grad.abs().max()


def test_the_number_of_threads_changes_no_bit() -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("this machine has one core")
    logits, labels, upstream = draw(5, 2, 11, (12, 16), (47, 61), 5.0)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            ours = logits.clone().requires_grad_()
            losses = pixel_cross_entropy(ours, labels, align_corners=True)
            assert numba.get_num_threads() == threads
            losses.backward(upstream)
            results.append((losses.detach(), ours.grad))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_bfloat16_logits_give_the_loss_of_their_float32_copy_and_a_bfloat16_gradient() -> None:
    logits, labels, upstream = draw(7, 1, 5, (6, 6), (24, 24), 5.0)
    halved = logits.bfloat16().requires_grad_()
    wide = logits.bfloat16().float().requires_grad_()
    losses = pixel_cross_entropy(halved, labels, align_corners=True)
    losses.backward(upstream)
    expected = pixel_cross_entropy(wide, labels, align_corners=True)
    expected.backward(upstream)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, expected)
    assert wide.grad is not None
    assert torch.equal(halved.grad, wide.grad.bfloat16())  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_of_the_logits_changes_no_bit(layout: torch.memory_format) -> None:
    logits, labels, _ = draw(8, 2, 5, (6, 7), (24, 28), 5.0)
    expected = pixel_cross_entropy(logits, labels, align_corners=True)
    assert torch.equal(pixel_cross_entropy(logits.to(memory_format=layout), labels, align_corners=True), expected)


def test_an_image_that_is_ignored_everywhere_has_no_loss_and_a_zero_gradient() -> None:
    logits, labels, _ = draw(9, 2, 4, (3, 3), (12, 12), 80.0)
    labels[:] = IGNORE
    ours = logits.clone().requires_grad_()
    loss = mean_over_labelled(pixel_cross_entropy(ours, labels, align_corners=True), labels)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(ours.grad, torch.zeros_like(logits))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_not_finite_gives_a_loss_that_is_not_finite(bad: float) -> None:
    logits, labels, _ = draw(10, 1, 4, (3, 3), (12, 12), 3.0)
    labels[labels == IGNORE] = 0
    logits[0, 2, 1, 1] = bad
    assert not pixel_cross_entropy(logits, labels, align_corners=True)[0, 5:7, 5:7].isfinite().any()


def test_a_label_that_is_no_class_gives_nan_there_alone() -> None:
    logits, labels, _ = draw(11, 1, 4, (3, 3), (12, 12), 3.0)
    labels[:] = 1
    labels[0, 3, 4], labels[0, 5, 6] = 4, 254
    losses = pixel_cross_entropy(logits, labels, align_corners=True)
    assert losses.isnan().nonzero().tolist() == [[0, 3, 4], [0, 5, 6]]


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    logits, labels, _ = draw(12, 1, 3, (2, 2), (4, 4), 1.0)
    ours = logits.clone().requires_grad_()
    loss = pixel_cross_entropy(ours, labels, align_corners=True).square().sum()
    (gradient,) = torch.autograd.grad(loss, ours, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_an_installation_without_any_writable_folder_compiles_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(fused._backward_columns.py_func)
    assert callable(fused._kernel(fused._backward_columns.py_func))


def test_the_first_loss_leaves_pytorch_its_number_of_threads() -> None:
    program = (
        "import torch; torch.set_num_threads(1)\n"
        "from featherseg.losses.cross_entropy import pixel_cross_entropy\n"
        "logits = torch.zeros(1, 2, 4, 4, requires_grad=True)\n"
        "pixel_cross_entropy(logits, torch.zeros(1, 8, 8, dtype=torch.uint8), align_corners=True).sum().backward()\n"
        "print('threads:', torch.get_num_threads())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "threads: 1\n"
