"""The feature-affinity loss in blocks against the literal matrix, value and gradient, and what it holds in memory."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from featherseg.losses.affinity import affinity_loss, mean_difference, pooled_affinity_loss, unit_vectors
from featherseg.losses.grids import Grid


def maps(seed: int, *shape: int, signed: bool = True) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made if signed else made.relu()


def matrix(features: Tensor) -> Tensor:
    """Eq. 4: all cosines of ``[B, C, h, w]`` as ``[B, N, N]``."""
    vectors = features.flatten(2)
    products = torch.einsum("bci,bcj->bij", vectors, vectors)
    lengths = vectors.norm(dim=1)
    return products / (lengths[:, :, None] * lengths[:, None])


def literal(student: Tensor, teacher: Tensor) -> Tensor:
    """Eq. 5 of maps of one size."""
    return (matrix(student) - matrix(teacher)).abs().mean((1, 2))


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 40),
)
def test_blocks_of_any_size_give_the_literal_loss_and_gradient(seed, batch, size, channels, block):
    student = maps(seed, batch, channels[0], *size).requires_grad_()
    teacher = maps(seed + 1, batch, channels[1], *size)
    weights = torch.arange(1.0, batch + 1, dtype=torch.float64)
    blocks = affinity_loss(student, teacher, block=block)
    whole = literal(student, teacher)
    torch.testing.assert_close(blocks, whole, rtol=1e-10, atol=1e-12)
    found, wanted = (torch.autograd.grad((one * weights).sum(), student)[0] for one in (blocks, whole))
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-11)


def test_both_sides_have_the_gradient_that_finite_differences_give():
    ours = maps(0, 2, 7, 3).requires_grad_()
    theirs = maps(1, 2, 7, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: mean_difference(a, b, 3), (ours, theirs))


def test_in_float32_the_blocks_differ_from_the_literal_form_by_rounding():
    student, teacher = maps(2, 2, 16, 9, 12).float(), maps(3, 2, 24, 9, 12).float()
    torch.testing.assert_close(affinity_loss(student, teacher, block=32), literal(student, teacher), rtol=1e-5, atol=0)


@pytest.mark.parametrize("align_corners", [True, False])
def test_resized_by_pixels_it_is_the_loss_of_the_matrix_interpolated_in_both_positions(align_corners):
    """The student's matrix as a picture of pictures: bilinear in the first pixel's position, then in the second's."""
    student, teacher = maps(4, 1, 5, 3, 4), maps(5, 1, 6, 6, 8)
    small, large = (3, 4), (6, 8)

    def enlarged(rows: Tensor) -> Tensor:
        made = F.interpolate(rows.reshape(-1, 1, *small), size=large, mode="bilinear", align_corners=align_corners)
        return made.reshape(len(rows), -1)

    own = enlarged(enlarged(matrix(student)[0]).T).T
    wanted = (own - matrix(teacher)[0]).abs().mean()
    grids = Grid(small, (24, 32), align_corners), Grid(large, (24, 32), align_corners)
    torch.testing.assert_close(affinity_loss(student, teacher, grids)[0], wanted, rtol=1e-10, atol=0)


def test_resized_by_raster_it_is_the_loss_of_the_matrix_interpolated_as_one_picture():
    student, teacher = maps(6, 1, 5, 3, 4), maps(7, 1, 6, 6, 8)
    own = F.interpolate(matrix(student)[None], size=(48, 48), mode="bilinear", align_corners=True)[0]
    wanted = (own - matrix(teacher)).abs().mean()
    torch.testing.assert_close(affinity_loss(student, teacher, resize="raster")[0], wanted, rtol=1e-10, atol=0)


def test_resized_by_features_the_teachers_map_is_averaged_to_the_students_grid():
    student, teacher = maps(8, 2, 5, 3, 4), maps(9, 2, 6, 6, 8)
    wanted = literal(student, F.avg_pool2d(teacher, 2))
    torch.testing.assert_close(affinity_loss(student, teacher, resize="features"), wanted, rtol=1e-10, atol=0)


def test_pooled_both_maps_are_averaged_to_the_common_grid():
    student, teacher = maps(10, 2, 5, 4, 8), maps(11, 2, 6, 8, 16)
    wanted = literal(F.avg_pool2d(student, 2), F.avg_pool2d(teacher, 4))
    torch.testing.assert_close(pooled_affinity_loss(student, teacher, (2, 4)), wanted, rtol=1e-10, atol=0)


def test_pooled_to_a_grid_finer_than_the_students_the_students_own_is_the_common_one():
    student, teacher = maps(12, 2, 5, 3, 4), maps(13, 2, 6, 6, 8)
    wanted = literal(student, F.avg_pool2d(teacher, 2))
    torch.testing.assert_close(pooled_affinity_loss(student, teacher, (32, 64)), wanted, rtol=1e-10, atol=0)


def test_a_map_has_no_distance_from_itself_nor_from_itself_scaled():
    features = maps(14, 2, 5, 4, 6)
    assert affinity_loss(features, features * 3.0).abs().max() < 1e-12


def test_the_teacher_gets_no_gradient():
    teacher = maps(15, 1, 4, 3, 3).requires_grad_()
    assert not affinity_loss(maps(16, 1, 4, 3, 3), teacher).requires_grad


def test_pixels_without_signal_have_no_affinity_and_a_finite_gradient():
    student = maps(17, 1, 4, 3, 3)
    student[..., 0, :] = 0.0
    student.requires_grad_()
    affinity_loss(student, maps(18, 1, 4, 3, 3)).sum().backward()
    assert student.grad is not None
    assert torch.equal(student.grad[..., 0, :], torch.zeros(1, 4, 3, dtype=torch.float64))
    assert student.grad[..., 1:, :].abs().min() > 0


def test_centred_vectors_have_no_mean():
    assert unit_vectors(maps(19, 1, 3, 8, 8, signed=False) + 5.0, centre=True).mean().abs() < 0.2
    assert unit_vectors(maps(19, 1, 3, 8, 8, signed=False) + 5.0).mean() > 0.5


def test_under_autocast_the_cosines_keep_float32():
    student, teacher = maps(20, 1, 8, 6, 8).float(), maps(21, 1, 8, 12, 16).float()
    plain = affinity_loss(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(affinity_loss(student, teacher), plain)


def test_it_never_holds_more_than_a_small_part_of_the_matrix():
    """At N = 4,096 the matrix has 64 MiB. Peak resident memory in a process of its own, forward and backward."""
    measured = """
import torch
from pathlib import Path
from featherseg.losses.affinity import affinity_loss
torch.set_num_threads(1)
student, teacher = torch.randn(1, 16, 64, 64, requires_grad=True), torch.randn(1, 16, 64, 64)
affinity_loss(student[..., :8, :8], teacher[..., :8, :8]).sum().backward()
def peak():
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
Path("/proc/self/clear_refs").write_text("5")
before = peak()
affinity_loss(student, teacher, block=256).sum().backward()
print(peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", measured], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 0.1 * 64
