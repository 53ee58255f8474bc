"""The label map of enlarged logits, against plain enlarging and against numpy's own interpolation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.deploy.argmax import label_map
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


def test_labels_agree_with_an_interpolation_written_apart():
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(5, 7, 9))
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
