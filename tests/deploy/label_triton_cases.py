"""Label maps by Triton against PyTorch's enlarging and arg-max, on a GPU or in Triton's interpreter on a CPU.

``test_label_triton.py`` runs these in a process of their own, since Triton decides for the interpreter when it is
imported. There, NumPy rounds what a GPU fuses; the fixture puts that right, and the arithmetic is then that of
PyTorch on CPUs with fused multiply-add, whose sides are longer than 128 together.
"""

import os
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.deploy import label_triton, labels
from featherseg.deploy.label_triton import UNCLEAR, labels_of_tiles, order_on
from featherseg.models.output import InputSpec

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")


@pytest.fixture(scope="module", autouse=True)
def interpreted_as_on_a_gpu():
    """Fuse what a GPU fuses, and take larger tiles: the interpreter's time goes by their number."""
    if not INTERPRETED:
        yield
        return
    from triton.runtime import interpreter  # pyright: ignore[reportMissingImports]

    def fused(self, a, b, c):
        exact = a.data.astype(np.float64) * b.data.astype(np.float64)
        return interpreter.TensorHandle((exact + c.data).astype(np.float32), c.dtype.scalar)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter.InterpreterBuilder, "create_fma", fused)
        patch.setattr(label_triton, "TILE", (16, 128))
        yield


def some_logits(kind: str, classes: int, low: tuple[int, int], seed: int) -> torch.Tensor:
    """Noise; few whole numbers, where ties abound; values that rounding decides; one class at the left, one right."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(classes, *low))
    if kind == "ties":
        values = np.round(values * 1.5)
    if kind == "close":
        values = 1000 + values * 1e-3
    if kind == "halves":
        values[0, :, : low[1] // 2] += 20
        values[-1, :, low[1] // 2 :] += 20
    return torch.from_numpy(values).float().to(DEVICE)


def expected_labels(logits: torch.Tensor, spec: InputSpec, size: tuple[int, int]) -> torch.Tensor:
    return spec.enlarge(logits.float()[:, None], size)[:, 0].argmax(0).to(torch.uint8)


@settings(max_examples=8 if INTERPRETED else 200)
@given(
    kind=st.sampled_from(["noise", "ties", "close", "halves"]),
    classes=st.integers(1, 4),
    low=st.tuples(st.integers(1, 9), st.integers(2, 40)),
    size=st.tuples(st.integers(1, 24), st.integers(129, 140)),
    aligned=st.booleans(),
    min_size=st.sampled_from([1, 30, 150]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 9999),
)
def test_tiles_have_the_labels_of_pytorch(kind, classes, low, size, aligned, min_size, dtype, seed):
    logits = some_logits(kind, classes, low, seed).to(dtype)
    spec = InputSpec(align_corners=aligned, min_size=min_size)
    found, sure = labels_of_tiles(logits, spec, size, "first")
    assert sure is None
    assert torch.equal(found, expected_labels(logits, spec, size))


@pytest.mark.parametrize("aligned", [True, False])
def test_a_class_that_is_largest_everywhere_fills_the_map(aligned):
    logits = some_logits("noise", 3, (4, 20), seed=1)
    logits[2] += 20
    found, _ = labels_of_tiles(logits, InputSpec(align_corners=aligned), (20, 130), "first")
    assert bool((found == 2).all())


def test_the_first_of_equal_classes_wins():
    found, _ = labels_of_tiles(torch.zeros(3, 2, 9, device=DEVICE), InputSpec(), (9, 130), "first")
    assert bool((found == 0).all())


def test_confidence_is_the_probability_of_the_label():
    logits = some_logits("noise", 4, (4, 20), seed=2)
    found, sure = labels_of_tiles(logits, InputSpec(), (20, 130), "first", confidence=True)
    assert sure is not None
    assert torch.equal(found, expected_labels(logits, InputSpec(), (20, 130)))
    probabilities = InputSpec().enlarge(logits[None], (20, 130)).softmax(1).amax(1)[0]
    torch.testing.assert_close(sure, probabilities, rtol=2e-5, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_give_what_pytorch_s_way_gives(value):
    logits = some_logits("halves", 3, (4, 20), seed=3)
    logits[1, 2, 5] = value
    expected, _ = labels.enlarged_labels(logits, InputSpec(), (12, 130))
    assert torch.equal(labels_of_tiles(logits, InputSpec(), (12, 130), "first")[0], expected)


def test_winners_are_unclear_where_rounding_could_decide():
    columns = [[5, 4, 3], [3, 5, 4], [5, 5, 3], [1e6, 999_999, 0], [float("inf"), 0, 0], [0, 5, -float("inf")]]
    logits = torch.tensor(columns, device=DEVICE).T.contiguous()
    winners = torch.empty(6, dtype=torch.uint8, device=DEVICE)
    run = cast(Any, label_triton.find_winners)[(1,)]
    run(logits, winners, 3, 6, SLACK=label_triton.SLACK, UNCLEAR=UNCLEAR, BLOCK=256)
    assert winners.tolist() == [0, 1, UNCLEAR, UNCLEAR, UNCLEAR, UNCLEAR]


def test_memory_order_of_the_logits_does_not_matter():
    logits = some_logits("noise", 3, (4, 20), seed=4)
    last = logits[None].to(memory_format=torch.channels_last)[0]
    found = [labels_of_tiles(values, InputSpec(), (12, 130), "first")[0] for values in (last, logits)]
    assert torch.equal(*found)


def test_the_order_that_pytorch_sums_in_is_found():
    assert order_on.__wrapped__(DEVICE) == "first"


def test_where_no_order_is_pytorch_s_none_is_found(monkeypatch):
    others = tuple(order for order in get_args(label_triton.Order) if order != "first")
    monkeypatch.setattr(label_triton, "get_args", lambda _: others)
    assert order_on.__wrapped__(DEVICE) is None


def test_the_map_is_given_where_an_order_is_known_and_left_to_pytorch_where_not(monkeypatch):
    logits = some_logits("noise", 3, (4, 20), seed=5)
    monkeypatch.setattr(label_triton, "order_on", lambda device: "first")
    found = labels.labels_on_gpu(logits, InputSpec(), (12, 130))
    assert found is not None
    np.testing.assert_array_equal(found.labels, expected_labels(logits, InputSpec(), (12, 130)).cpu().numpy())
    monkeypatch.setattr(label_triton, "order_on", lambda device: None)
    assert labels.labels_on_gpu(logits, InputSpec(), (12, 130)) is None


def test_logits_of_full_size_are_left_to_pytorch():
    assert labels.labels_on_gpu(torch.zeros(3, 4, 20, device=DEVICE), InputSpec(), (4, 20)) is None


@pytest.mark.skipif(INTERPRETED, reason="the interpreter would take minutes")
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("kind", ["halves", "noise", "close"])
def test_a_network_s_size_with_19_classes(kind, aligned):
    logits = some_logits(kind, 19, (128, 256), seed=6)
    spec = InputSpec(align_corners=aligned)
    expected = expected_labels(logits, spec, (1024, 2048)).cpu().numpy()
    for _ in range(2):  # the first map of a process is PyTorch's
        np.testing.assert_array_equal(labels.label_map(logits, spec, (1024, 2048)).labels, expected)
