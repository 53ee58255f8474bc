"""The label map of enlarged logits, against plain enlarging and against numpy's own interpolation."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featherseg.deploy.labels import can_skip_enlarging, label_map, labels_of_cells
from featherseg.models.output import InputSpec


def interpolate_rows(values: np.ndarray, length: int) -> np.ndarray:
    """Linear interpolation along axis 0 with aligned corners, by ``np.interp``: independent of torch."""
    if length == 1:
        return values[:1]
    positions = np.linspace(0, values.shape[0] - 1, length)
    columns = values.reshape(values.shape[0], -1)
    joined = [np.interp(positions, np.arange(values.shape[0]), columns[:, i]) for i in range(columns.shape[1])]
    return np.stack(joined, 1).reshape(length, *values.shape[1:])


@settings(max_examples=40)
@given(
    classes=st.integers(1, 13),
    low=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    aligned=st.booleans(),
    min_size=st.sampled_from([1, 64]),
    seed=st.integers(0, 999),
)
def test_labels_are_those_of_enlarging_all_classes_at_once(classes, low, size, aligned, min_size, seed):
    logits = torch.randn(classes, *low, generator=torch.Generator().manual_seed(seed))
    spec = InputSpec(align_corners=aligned, min_size=min_size)
    found = label_map(logits, spec, size, confidence=True)
    full = spec.enlarge(logits[None], size)
    np.testing.assert_array_equal(found.labels, full.argmax(1)[0].numpy())
    assert found.confidence is not None
    np.testing.assert_allclose(found.confidence, full.softmax(1).amax(1)[0].numpy(), rtol=2e-5)


def some_logits(kind: str, classes: int, low: tuple[int, int], seed: int) -> torch.Tensor:
    """Noise, where every cell is a boundary; smooth areas; or few whole numbers, where ties abound."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(classes, *low))
    if kind == "smooth":
        coarse = random.normal(size=(classes, 3, 3)) * 4
        values = interpolate_rows(np.moveaxis(interpolate_rows(np.moveaxis(coarse, 1, 0), low[0]), 2, 0), low[1])
        values = np.moveaxis(values, 0, -1).swapaxes(0, 1)
    if kind == "ties":
        values = np.round(values * 1.5)
    if kind == "close":
        values = 1000 + values * 1e-3
    return torch.from_numpy(np.ascontiguousarray(values)).float()


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(["noise", "smooth", "ties", "close"]),
    classes=st.integers(1, 21),
    low=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 230), st.integers(129, 230)),
    aligned=st.booleans(),
    min_size=st.sampled_from([1, 64, 200]),
    seed=st.integers(0, 9999),
)
def test_skipping_the_enlarging_gives_the_labels_of_pytorch(kind, classes, low, size, aligned, min_size, seed):
    assume(low != (1, 1))
    logits = some_logits(kind, classes, low, seed)
    spec = InputSpec(align_corners=aligned, min_size=min_size)
    assert can_skip_enlarging(logits, spec, size)
    batches = logits[:, None] if classes == 3 else logits[None]  # PyTorch enlarges three channels as it does pictures
    expected = spec.enlarge(batches, size).reshape(classes, *size).argmax(0).numpy()
    np.testing.assert_array_equal(labels_of_cells(logits.numpy(), spec, size), expected)


@pytest.mark.parametrize("aligned", [True, False])
def test_a_network_s_size_with_19_classes(aligned):
    logits = some_logits("smooth", 19, (64, 128), seed=1)
    spec = InputSpec(align_corners=aligned)
    expected = spec.enlarge(logits[None], (512, 1024)).argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(labels_of_cells(logits.numpy(), spec, (512, 1024)), expected)


def test_the_number_of_threads_changes_nothing():
    logits = some_logits("noise", 7, (30, 40), seed=2).numpy()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(labels_of_cells(logits, InputSpec(), (180, 240)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_a_single_logit_a_class_is_left_to_pytorch():
    assert not can_skip_enlarging(torch.randn(5, 1, 1), InputSpec(), (100, 100))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_left_to_pytorch(value):
    logits = some_logits("noise", 3, (30, 40), seed=4)
    assert can_skip_enlarging(logits, InputSpec(), (180, 240))
    logits[1, 5, 5] = value
    logits[2, 20:] = value
    assert not can_skip_enlarging(logits, InputSpec(), (180, 240))
    expected = InputSpec().enlarge(logits[None], (180, 240)).argmax(1)[0].numpy()
    for _ in range(2):  # the first of a process is PyTorch's anyway
        np.testing.assert_array_equal(label_map(logits, InputSpec(), (180, 240)).labels, expected)


def test_bfloat16_logits_are_widened_first():
    logits = some_logits("noise", 5, (30, 40), seed=5).bfloat16()
    found = [label_map(logits, InputSpec(), (180, 240)).labels for _ in range(2)]
    expected = InputSpec().enlarge(logits.float()[None], (180, 240)).argmax(1)[0].numpy()
    for labels in found:  # the first of a process is PyTorch's
        np.testing.assert_array_equal(labels, expected)


def test_one_map_loads_no_compiler_and_two_do():
    program = """if True:
        import sys, torch
        from featherseg.deploy.labels import label_map
        from featherseg.models.output import InputSpec
        for wanted in (False, True):
            label_map(torch.randn(3, 30, 40), InputSpec(), (120, 160))
            assert ("numba" in sys.modules) == wanted, wanted
    """
    subprocess.run([sys.executable, "-c", program], check=True)


def test_labels_agree_with_an_interpolation_written_apart():
    logits = np.random.default_rng(3).normal(size=(5, 7, 9))
    found = label_map(torch.from_numpy(logits).float(), InputSpec(align_corners=True), (61, 83))
    full = interpolate_rows(np.moveaxis(interpolate_rows(np.moveaxis(logits, 1, 0), 61), 2, 0), 83)
    expected = np.moveaxis(full, 0, -1).argmax(1)  # [H, K, W]
    assert expected.shape == found.labels.shape
    sure = np.sort(np.moveaxis(full, 0, -1), 1)
    decided = sure[:, -1] - sure[:, -2] > 1e-5
    assert decided.mean() > 0.99
    np.testing.assert_array_equal(found.labels[decided], expected[decided])


def test_memory_order_of_the_logits_does_not_matter():
    logits = torch.randn(11, 6, 8)
    last = logits[None].to(memory_format=torch.channels_last)[0]
    spec = InputSpec()
    np.testing.assert_array_equal(label_map(last, spec, (45, 60)).labels, label_map(logits, spec, (45, 60)).labels)


def test_the_first_of_equal_classes_wins():
    assert (label_map(torch.zeros(4, 2, 2), InputSpec(), (9, 9)).labels == 0).all()


def test_more_classes_than_an_8_bit_map_holds_are_refused():
    with pytest.raises(ValueError, match="256 classes"):
        label_map(torch.zeros(256, 1, 1), InputSpec(), (1, 1))
