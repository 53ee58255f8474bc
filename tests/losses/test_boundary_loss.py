"""Boundary targets against literal convolutions and loops, the published recipe's flaws one by one, and the loss.

The first flaw, that no gradient reaches the fusing weights, has no test: a target of booleans has none to pass on.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.losses.boundary import IGNORE, boundary_loss, boundary_target

KINDS = ("published", "corrected")
# Few ids, so that neighbours are often alike; 18 and 254 so that sums reach far.
label_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=11),
    elements=st.sampled_from([0, 0, 0, 1, 1, 2, 18, 254, IGNORE]),
)


def convolved(labels: Tensor) -> Tensor:
    """The published recipe in its own operators: float ``[B, 1, H, W]``."""
    laplacian = torch.full((1, 1, 3, 3), -1.0)
    laplacian[..., 1, 1] = 8.0
    ids = labels[:, None].float()
    maps = []
    for stride in (1, 2, 4):
        edges = F.conv2d(ids, laplacian, stride=stride, padding=1).clamp(min=0)
        edges = F.interpolate(edges, ids.shape[2:], mode="nearest")
        maps.append((edges > 0.1).float())
    fused = F.conv2d(torch.cat(maps, 1), torch.tensor([0.6, 0.3, 0.1]).view(1, 3, 1, 1))
    fused[fused > 0.1] = 1
    fused[fused <= 0.1] = 0
    return fused


def literal_corrected(labels: np.ndarray) -> np.ndarray:
    """Pixel by pixel: some neighbour is of another class, or the block's first pixel at stride 2 or 4 has one."""
    height, width = labels.shape

    def edge(y: int, x: int) -> bool:
        around = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        return labels[y, x] != IGNORE and len({int(v) for v in around.ravel() if v != IGNORE}) > 1

    result = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width):
            marked = any(edge(y // s * s, x // s * s) for s in (1, 2, 4))
            result[y, x] = labels[y, x] != IGNORE and marked
    return result


def target_of(rows: list[list[int]], kind: str) -> np.ndarray:
    return boundary_target(torch.tensor([rows], dtype=torch.uint8), kind)[0][0].numpy()  # type: ignore[arg-type]


@settings(max_examples=300)
@given(labels=label_maps)
def test_published_equals_the_convolutions_in_float(labels: np.ndarray) -> None:
    ids = torch.from_numpy(labels)
    target, valid = boundary_target(ids, "published")
    assert torch.equal(target, convolved(ids)[:, 0] == 1)
    assert valid.all()


@settings(max_examples=100)
@given(labels=label_maps)
def test_corrected_equals_the_literal_rule(labels: np.ndarray) -> None:
    target, valid = boundary_target(torch.from_numpy(labels), "corrected")
    assert np.array_equal(target.numpy(), np.stack([literal_corrected(image) for image in labels]))
    assert np.array_equal(valid.numpy(), labels != IGNORE)


@settings(max_examples=100)
@given(labels=label_maps, seed=st.integers(0, 999))
def test_corrected_knows_no_order_of_ids(labels: np.ndarray, seed: int) -> None:
    names = np.append(np.random.default_rng(seed).permutation(IGNORE), IGNORE).astype(np.uint8)
    renamed = boundary_target(torch.from_numpy(names[labels]), "corrected")[0]
    assert torch.equal(renamed, boundary_target(torch.from_numpy(labels), "corrected")[0])


def test_flaw_2_stride_4_marks_nothing() -> None:
    spot = [[int((y, x) == (4, 4)) for x in range(8)] for y in range(8)]
    published, corrected = target_of(spot, "published"), target_of(spot, "corrected")
    assert np.argwhere(published).max() == 5  # stride 2 reaches this far
    assert corrected[4:8, 4:8].all()


@pytest.mark.parametrize(("left", "right"), [(1, 2), (2, 1)])
def test_flaw_3_an_edge_has_the_side_of_the_greater_id_alone(left: int, right: int) -> None:
    rows = [[left] * 6 + [right] * 6 for _ in range(8)]
    published, corrected = target_of(rows, "published")[3], target_of(rows, "corrected")[3]
    assert (published[5], published[6]) == (left > right, right > left)
    assert corrected[5]
    assert corrected[6]


def test_flaw_3_a_greater_and_a_smaller_neighbour_cancel() -> None:
    rows = [[value] * 8 for value in (1, 1, 1, 2, 3, 3, 3, 3)]
    assert not target_of(rows, "published")[3, 3]
    assert target_of(rows, "corrected")[3, 3]


def test_flaw_4_the_frame_is_marked() -> None:
    rows = [[3] * 7 for _ in range(7)]
    published = target_of(rows, "published")
    assert published[[0, -1]].all()
    assert published[:, [0, -1]].all()
    assert not target_of(rows, "corrected").any()


def test_flaw_5_ignored_pixels_make_edges() -> None:
    rows = [[0] * 9 for _ in range(9)]
    for y in (4, 5):
        rows[y][4:6] = [IGNORE, IGNORE]
    labels = torch.tensor([rows], dtype=torch.uint8)
    published, counted = boundary_target(labels, "published")
    corrected, valid = boundary_target(labels, "corrected")
    assert published[0, 4, 4]
    assert counted.all()
    assert not corrected.any()
    assert torch.equal(valid, labels != IGNORE)


def literal_loss(logits: np.ndarray, target: np.ndarray, valid: np.ndarray) -> float:
    p = 1 / (1 + np.exp(-logits[valid].astype(np.float64)))
    t = target[valid].astype(np.float64)
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum() / max(valid.sum(), 1)
    return entropy + 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


@settings(max_examples=60)
@given(labels=label_maps, seed=st.integers(0, 999), kind=st.sampled_from(KINDS))
def test_the_loss_is_the_sum_of_both_formulas_image_by_image(labels: np.ndarray, seed: int, kind: str) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (len(labels), 1, *labels.shape[1:])).astype(np.float32)
    ids = torch.from_numpy(labels)
    target, valid = (part.numpy() for part in boundary_target(ids, kind))  # type: ignore[arg-type]
    expected = [literal_loss(*image) for image in zip(logits[:, 0], target, valid, strict=True)]
    ours = boundary_loss(torch.from_numpy(logits), ids, kind)  # type: ignore[arg-type]
    assert ours.numpy() == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5)


def test_logits_are_enlarged_with_corners_aligned() -> None:
    labels = torch.randint(0, 2, (1, 5, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(-2, 2, 9).expand(1, 1, 5, 9)
    small = torch.tensor([[[[-2.0, 0.0, 2.0], [-2.0, 0.0, 2.0]]]])
    torch.testing.assert_close(boundary_loss(small, labels), boundary_loss(ramp, labels))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_have_the_losses_of_the_whole(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (4, 16, 24), dtype=torch.uint8, generator=generator)
    labels[1, :5] = IGNORE
    logits = torch.randn(4, 1, 2, 3, generator=generator)
    parts = [boundary_loss(logits[part], labels[part], kind) for part in (slice(0, 1), slice(1, 4))]  # type: ignore[arg-type]
    torch.testing.assert_close(torch.cat(parts), boundary_loss(logits, labels, kind))  # type: ignore[arg-type]


def test_an_image_without_labels_costs_nothing_and_teaches_nothing() -> None:
    labels = torch.full((2, 8, 8), IGNORE, dtype=torch.uint8)
    labels[1, :4] = 0
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    losses = boundary_loss(logits, labels, "corrected")
    losses.sum().backward()
    assert losses[0].item() == 0.0
    assert losses[1].item() > 0.0
    assert logits.grad is not None
    assert not logits.grad[0].any()
    assert logits.grad[1].any()


def test_no_gradient_comes_from_ignored_pixels() -> None:
    labels = torch.tensor([[[0, 1, IGNORE, IGNORE]] * 4], dtype=torch.uint8)
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    boundary_loss(logits, labels, "corrected").sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[0, 0].bool(), labels[0] != IGNORE)


def test_the_gradient_is_that_of_the_loss() -> None:
    labels = torch.randint(0, 3, (2, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    logits = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: boundary_loss(values, labels), (logits,))


def test_half_precision_logits_have_a_float32_loss() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    logits = torch.full((1, 1, 2, 2), -1.0, dtype=torch.bfloat16)
    loss = boundary_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, boundary_loss(logits.float(), labels))


def test_an_unknown_kind_gets_the_nearest() -> None:
    with pytest.raises(FeathersegError, match="did you mean 'corrected'"):
        boundary_target(torch.zeros(1, 2, 2, dtype=torch.uint8), "correct")  # type: ignore[arg-type]
