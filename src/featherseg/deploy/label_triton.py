"""The label map of logits on a GPU, by two Triton kernels: what ``label_kernels.py`` does on CPUs, tile by tile.

Choices worth knowing:

- A program labels a tile of the output. Where one class is largest, beyond rounding, at every logit the tile lies
  between, it is largest all over the tile and is written in one stroke. Elsewhere every class is evaluated: telling who
  can win would read the same corners.
- An enlarged value is that of PyTorch's CUDA kernel: float32 whatever the logits are stored in, along the row first,
  each of the three sums a product fused onto another. Which product is the fused one is for the compiler that built
  PyTorch to choose, so :func:`order_on` asks the GPU, by logits that lie so close together that rounding alone decides.
- Triton's own fusing is off: what is fused is written out.
- Run in Triton's interpreter and compiled for GPUs of compute capability 8.0 and 9.0, but not run on one. NVIDIA's
  compiler (NVRTC 12.9) makes of PyTorch's formula the order called "first".
"""

from functools import cache, lru_cache
from typing import Any, Literal, cast, get_args

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from featherseg.deploy.labels import enlarged_labels, positions
from featherseg.models.output import InputSpec

Order = Literal["first", "second", "none"]
"""Which product of ``a * wa + b * wb`` goes unrounded into the sum."""

SLACK = 4e-6
"""Relative distance beyond which rounding cannot turn an order round, as in ``label_kernels.py``."""
UNCLEAR = 255
"""Stands for a class where no class is largest beyond rounding; no class has this id."""
LOGITS = 256
"""Logit pixels of a program that finds winners."""
TILE = (8, 32)
"""Output rows and columns of a program that labels: some cells of the usual strides, and whole 32-byte writes."""


@triton.jit
def find_winners(  # type: ignore[no-untyped-def]
    logits, winners, classes, plane, SLACK: tl.constexpr, UNCLEAR: tl.constexpr, BLOCK: tl.constexpr
):
    """The largest class of each of ``[classes, plane]`` values; UNCLEAR where rounding decides or one is not finite."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < plane
    pointer = logits + place
    best = tl.load(pointer, mask=inside, other=0.0).to(tl.float32)
    second = tl.full((BLOCK,), float("-inf"), tl.float32)
    number = tl.zeros((BLOCK,), tl.int32)
    finite = tl.abs(best) < float("inf")
    for k in range(1, classes):
        pointer += plane
        value = tl.load(pointer, mask=inside, other=0.0).to(tl.float32)
        finite = finite & (tl.abs(value) < float("inf"))
        second = tl.maximum(second, tl.minimum(value, best))
        number = tl.where(value > best, k, number)
        best = tl.maximum(best, value)
    clear = finite & (best - second > SLACK * tl.abs(best))
    tl.store(winners + place, tl.where(clear, number, UNCLEAR).to(tl.uint8), mask=inside)


@triton.jit
def _weighted(a, wa, b, wb, ORDER: tl.constexpr):  # type: ignore[no-untyped-def]
    """``a * wa + b * wb`` with PyTorch's roundings."""
    if ORDER == "first":
        return tl.fma(a, wa, b * wb)
    elif ORDER == "second":
        return tl.fma(b, wb, a * wa)
    else:
        return a * wa + b * wb


@triton.jit
def _enlarged(logits, tp, tq, bp, bq, wt, wb, wp, wq, ORDER: tl.constexpr):  # type: ignore[no-untyped-def]
    """One class's value at every pixel of a tile, from the places and the weights of its corners."""
    upper = _weighted(tl.load(logits + tp).to(tl.float32), wp, tl.load(logits + tq).to(tl.float32), wq, ORDER)
    lower = _weighted(tl.load(logits + bp).to(tl.float32), wp, tl.load(logits + bq).to(tl.float32), wq, ORDER)
    return _weighted(upper, wt, lower, wb, ORDER)


@triton.jit
def label_tiles(  # type: ignore[no-untyped-def]
    logits,
    winners,
    tops,
    fy,
    lefts,
    fx,
    labels,
    sure,
    classes,
    height,
    width,
    rows,
    columns,
    ORDER: tl.constexpr,
    CONFIDENCE: tl.constexpr,
    UNCLEAR: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Label a tile of ``[rows, columns]`` pixels.

    Args:
        logits: ``[classes, height, width]``, contiguous.
        winners: of :func:`find_winners`.
        tops, fy: of each output row, its upper logit row and the weight of the lower one.
        lefts, fx: the same along the columns.
        labels: uint8 ``[rows, columns]``, written.
        sure: float32 ``[rows, columns]``, written with CONFIDENCE: the soft-max probability of the label.
    """
    y = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (y < rows)[:, None] & (x < columns)[None, :]
    place = y.to(tl.int64)[:, None] * columns + x[None, :]
    # What a tile has beyond the edge repeats the last row and column, so that it never makes a tile mixed.
    y, x = tl.minimum(y, rows - 1), tl.minimum(x, columns - 1)
    t, p = tl.load(tops + y)[:, None], tl.load(lefts + x)[None, :]
    b, q = tl.minimum(t + 1, height - 1), tl.minimum(p + 1, width - 1)
    tp, tq, bp, bq = t * width + p, t * width + q, b * width + p, b * width + q

    at_tp, at_tq = tl.load(winners + tp).to(tl.int32), tl.load(winners + tq).to(tl.int32)
    at_bp, at_bq = tl.load(winners + bp).to(tl.int32), tl.load(winners + bq).to(tl.int32)
    least = tl.min(tl.minimum(tl.minimum(at_tp, at_tq), tl.minimum(at_bp, at_bq)))
    most = tl.max(tl.maximum(tl.maximum(at_tp, at_tq), tl.maximum(at_bp, at_bq)))
    if (least != most) | (most == UNCLEAR) | CONFIDENCE:
        wb, wq = tl.load(fy + y)[:, None], tl.load(fx + x)[None, :]
        wt, wp = 1.0 - wb, 1.0 - wq
        pointer = logits
        best = _enlarged(pointer, tp, tq, bp, bq, wt, wb, wp, wq, ORDER)
        number = tl.zeros((ROWS, COLUMNS), tl.int32)
        for k in range(1, classes):
            pointer += height * width
            value = _enlarged(pointer, tp, tq, bp, bq, wt, wb, wp, wq, ORDER)
            number = tl.where(value > best, k, number)
            best = tl.maximum(best, value, propagate_nan=tl.PropagateNan.ALL)  # as torch.maximum does
        tl.store(labels + place, number.to(tl.uint8), mask=inside)
        if CONFIDENCE:
            total = tl.zeros((ROWS, COLUMNS), tl.float32)
            pointer = logits
            for _ in range(classes):
                total += tl.exp(_enlarged(pointer, tp, tq, bp, bq, wt, wb, wp, wq, ORDER) - best)
                pointer += height * width
            tl.store(sure + place, 1.0 / total, mask=inside)
    else:
        tl.store(labels + place, tl.zeros((ROWS, COLUMNS), tl.uint8) + most.to(tl.uint8), mask=inside)


def takes(logits: Tensor, spec: InputSpec, size: tuple[int, int]) -> bool:
    """Whether :func:`labels_of_tiles` gives PyTorch's labels for these: logits of full size PyTorch only copies."""
    return spec.padded_size(*size) != tuple(logits.shape[1:])


def labels_of_tiles(
    logits: Tensor, spec: InputSpec, size: tuple[int, int], order: Order, *, confidence: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The label map uint8 ``[H, W]`` and, where asked for, the probability of each label float32 ``[H, W]``.

    Args:
        logits: float32, bfloat16 or float16 ``[K, h, w]``, 1 <= K <= 255, on the GPU that gets the map too.
        spec: how they are enlarged.
        size: (H, W) of the image.
        order: of this GPU, by :func:`order_on`.
        confidence: every class is evaluated everywhere for it.
    """
    logits = logits.contiguous()
    classes, height, width = logits.shape
    padded = spec.padded_size(*size)
    tops, fy = _positions_on(logits.device, padded[0], height, size[0], spec.align_corners)
    lefts, fx = _positions_on(logits.device, padded[1], width, size[1], spec.align_corners)
    winners = torch.empty((height, width), dtype=torch.uint8, device=logits.device)
    labels = torch.empty(size, dtype=torch.uint8, device=logits.device)
    sure = torch.empty(size if confidence else 1, dtype=torch.float32, device=logits.device)
    plane, (rows, columns) = height * width, size
    tiles = triton.cdiv(columns, TILE[1]), triton.cdiv(rows, TILE[0])
    common: dict[str, Any] = {"UNCLEAR": UNCLEAR, "enable_fp_fusion": False}
    with torch.cuda.device_of(logits):
        cast(Any, find_winners)[(triton.cdiv(plane, LOGITS),)](
            logits, winners, classes, plane, SLACK=SLACK, BLOCK=LOGITS, **common
        )
        cast(Any, label_tiles)[tiles](
            *(logits, winners, tops, fy, lefts, fx, labels, sure, classes, height, width, rows, columns),
            **{"ORDER": order, "CONFIDENCE": confidence, "ROWS": TILE[0], "COLUMNS": TILE[1]},
            **common,
        )
    return labels, sure if confidence else None


@lru_cache(maxsize=32)
def _positions_on(device: torch.device, length: int, low: int, kept: int, align_corners: bool) -> tuple[Tensor, Tensor]:
    lower, weight = positions(length, low, kept, align_corners)
    return torch.from_numpy(lower).to(device, torch.int32), torch.from_numpy(weight).to(device)


@cache
def order_on(device: torch.device) -> Order | None:
    """The order that gives PyTorch's labels on a GPU, tried on near-ties; None where none does or Triton cannot run."""
    steps = torch.randint(4, (6, 5, 17), generator=torch.Generator().manual_seed(0))
    logits = (1 + steps * 2.0**-22).to(device)
    size = 23, 131
    try:
        for order in get_args(Order):
            found = {
                aligned: labels_of_tiles(logits, InputSpec(align_corners=aligned), size, order)[0]
                for aligned in (True, False)
            }
            if all(
                torch.equal(labels, enlarged_labels(logits, InputSpec(align_corners=aligned), size)[0])
                for aligned, labels in found.items()
            ):
                return order
    except Exception:  # no C compiler, no GPU that Triton knows, ...: it has no error of its own for them
        return None
    return None
