"""Feature affinity: how alike every two pixels of a map are, compared between a student's map and a teacher's.

Yang et al. (ISVC 2021), Eqs. 4 and 5, after Wang et al. (DSRL, 2020): S_ij is the cosine of the pixel vectors i and j,
and the loss the mean of |S_ij of the teacher - S_ij of the student| over all N x N pairs. At the 1/4 path of a 512x1024
crop N is 32,768, and one such matrix 4 GiB an image.

Design choices:
- nothing of size N x N is ever made. The matrices' difference is computed block by block; each block adds to the loss
  and, since the loss's gradient with respect to it is its sign, to the gradient at once. The backward pass then only
  scales. The result equals the literal form's to rounding, with working memory of one block;
- both matrices are symmetric, so that blocks below the diagonal are not computed, nor the two products that the literal
  form's gradient takes for one: half the arithmetic;
- the norm in Eq. 5 is of one number, an absolute value for every q. A squared difference would need no blocks: the sum
  of its squares follows from three C x C products. It is another loss, and not the paper's;
- Eq. 5 wants both matrices of one size, and the paper interpolates the student's. Bilinear in both pixels' positions
  (``pixels``), that is the affinity of interpolated unit vectors, exactly; taken literally, as an N x N picture
  (``raster``), it is the affinity of unit vectors interpolated along the raster, across the ends of rows. Neither needs
  the matrix. ``features`` shrinks the teacher's map to the student's grid by averaging instead;
- ``pooled`` is the quick form: both maps are averaged to a small common grid first, as DSRL does;
- a pixel without signal has no direction: its cosines are 0, and it gets no gradient.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from featherseg.losses.grids import Grid, read_at

Resizing = Literal["pixels", "raster", "features"]
SMALLEST_NORM = 1e-6
BLOCK = {"cpu": 512, "cuda": 4096}
"""Pixels a side of a block: what a processor's cache holds, and what fills a GPU."""


def unit_vectors(maps: Tensor, centre: bool = False) -> Tensor:
    """Pixel vectors of length 1, ``[B, C, h, w]`` in float32 (float64 where they are); 0 where there is no signal.

    ``centre`` takes each channel's mean over the pixels off first: behind a ReLU all cosines are positive otherwise.
    """
    wide = maps if maps.dtype == torch.float64 else maps.float()
    if centre:
        wide = wide - wide.mean((2, 3), keepdim=True)
    squares = wide.square().sum(1, keepdim=True)
    present = squares > SMALLEST_NORM**2
    return wide * (torch.where(present, squares, 1.0).rsqrt() * present)


class _MeanDifference(torch.autograd.Function):
    """Mean of |A A^T - B B^T| over all entries, for A ``[N, C]`` and B ``[N, D]``; a 0-dimensional tensor.

    ``wanted`` says for which of the two a gradient is.
    """

    @staticmethod
    def forward(ctx, ours: Tensor, theirs: Tensor, block: int, wanted: tuple[bool, bool]) -> Tensor:  # type: ignore[override]
        count = len(ours)
        total = torch.zeros((), dtype=torch.float64, device=ours.device)
        # d|A A^T - B B^T| / dA is (S + S^T) A with S the signs, and / dB the same with B and the other sign.
        parts = [(side, torch.zeros_like(side), factor) for side, factor in ((ours, 2.0), (theirs, -2.0))]
        parts = [part for part, is_wanted in zip(parts, wanted, strict=True) if is_wanted]
        for top in range(0, count, block):
            rows = slice(top, top + block)
            for left in range(top, count, block):
                columns = slice(left, left + block)
                difference = (ours[rows] @ ours[columns].T).addmm_(theirs[rows], theirs[columns].T, alpha=-1.0)
                total += difference.abs().sum() * (1 if top == left else 2)
                if not parts:
                    continue
                signs = difference.sign_()
                for side, gradient, factor in parts:
                    gradient[rows].addmm_(signs, side[columns], alpha=factor)
                    if left > top:
                        gradient[columns].addmm_(signs.T, side[rows], alpha=factor)
        found = iter([gradient for _, gradient, _ in parts])
        ctx.gradients = [next(found) if is_wanted else None for is_wanted in wanted]
        ctx.scale = 1 / count**2
        return (total * ctx.scale).to(ours.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, scale: Tensor):  # type: ignore[override]
        scaled = [None if one is None else one * (scale * ctx.scale) for one in ctx.gradients]
        return *scaled, None, None


def mean_difference(ours: Tensor, theirs: Tensor, block: int | None = None) -> Tensor:
    """Eq. 5 of each image, ``[B]``: mean |A A^T - B B^T| of unit vectors ``[B, N, C]`` and ``[B, N, D]``.

    Exact, in blocks of ``block`` pixels a side (:data:`BLOCK` if not given); memory beyond the arguments' own is one
    block's and, where gradients are wanted, theirs. Gradients of gradients are not given.
    """
    side = block or BLOCK.get(ours.device.type, BLOCK["cpu"])
    # Half precision would round cosines near 1 to the third digit, and differences of theirs are the loss.
    with torch.autocast(ours.device.type, enabled=False):
        wanted = tuple(torch.is_grad_enabled() and one.requires_grad for one in (ours, theirs))
        return torch.stack([_MeanDifference.apply(a, b, side, wanted) for a, b in zip(ours, theirs, strict=True)])


def affinity_loss(
    student: Tensor,
    teacher: Tensor,
    grids: tuple[Grid, Grid] | None = None,
    *,
    resize: Resizing = "pixels",
    centre: bool = False,
    block: int | None = None,
) -> Tensor:
    """The feature-affinity loss (Yang et al. 2021, Eq. 5) of each image, exactly: ``[B]``.

    Args:
        student: ``[B, C, h, w]``.
        teacher: ``[B, D, h', w']``; it gets no gradient.
        grids: where the student's and the teacher's pixels lie; if not given, corners aligned over the same image.
        resize: how maps of different grids are made to agree, see the module.
        centre: of :func:`unit_vectors`.
        block: of :func:`mean_difference`.
    """
    own, other = grids or tuple(
        Grid((one.shape[-2], one.shape[-1]), (teacher.shape[-2], teacher.shape[-1]), True) for one in (student, teacher)
    )
    teacher = teacher.detach()
    if own == other:
        ours, theirs = _pixels(unit_vectors(student, centre)), _pixels(unit_vectors(teacher, centre))
    elif resize == "features":
        teacher = F.adaptive_avg_pool2d(teacher, (student.shape[-2], student.shape[-1]))
        ours, theirs = _pixels(unit_vectors(student, centre)), _pixels(unit_vectors(teacher, centre))
    elif resize == "raster":
        theirs = _pixels(unit_vectors(teacher, centre))
        along = unit_vectors(student, centre).flatten(2)
        ours = F.interpolate(along, size=theirs.shape[1], mode="linear", align_corners=own.align_corners).mT
    else:
        theirs = _pixels(unit_vectors(teacher, centre))
        with torch.autocast(student.device.type, enabled=False):
            ours = _pixels(read_at(unit_vectors(student, centre), own, other))
    return mean_difference(ours, theirs, block)


def pooled(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """``[B, C, h, w]`` averaged to at most ``grid`` (h, w) pixels, in float32 (float64 where they are)."""
    wide = maps if maps.dtype == torch.float64 else maps.float()
    return F.adaptive_avg_pool2d(wide, (min(grid[0], maps.shape[-2]), min(grid[1], maps.shape[-1])))


def pooled_affinity_loss(student: Tensor, teacher: Tensor, grid: tuple[int, int], *, centre: bool = False) -> Tensor:
    """:func:`affinity_loss` of maps averaged to the largest common grid within ``grid`` (h, w): ``[B]``."""
    common = (
        min(grid[0], student.shape[-2], teacher.shape[-2]),
        min(grid[1], student.shape[-1], teacher.shape[-1]),
    )
    return affinity_loss(pooled(student, common), pooled(teacher, common), centre=centre)


def _pixels(vectors: Tensor) -> Tensor:
    return vectors.flatten(2).mT
