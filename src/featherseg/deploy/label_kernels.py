"""Compiled loops behind ``labels.py``: which class is largest where, cell by cell.

The arithmetic of an enlarged value is that of PyTorch's bilinear interpolation of contiguous float32 maps on CPUs with
fused multiply-add, in its order: along the row first, each of the three sums as ``fma(a, wa, b * wb)``. Design choices:

- loops over a block of eight pixels have a constant length, so that the compiler unrolls them into vector instructions;
- threads are Python's, which sleep between two maps, and the loops let go of Python's lock. numba's own would be
  OpenMP's, which spin for a while and take the cores from the runtime that labels the next image, or TBB's out of
  OpenVINO, on which the process would not end;
- no fast-math: a reordered sum would be another number, and labels at near-ties would differ;
- the compiled code is kept on disk, beside this file or in the user's cache folder; where neither can be written it is
  compiled anew in every process.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

BLOCK = 8
PARTS = 4
"""Parts of a map for each thread: boundaries, which take longest, lie unevenly."""
SLACK = np.float32(4e-6)
"""Relative distance beyond which rounding cannot turn an order round: some thirty times float32's half unit."""


def _fused_multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` with one rounding."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return numba.float32(numba.float32, numba.float32, numba.float32), generate


_fma: Any = intrinsic(_fused_multiply_add)


def _kernel(function: Callable[..., None]) -> Any:
    """Compile, kept on disk where there is a folder that can be written."""
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba finds no folder for its cache
        return numba.njit(nogil=True, error_model="numpy")(function)


def over_rows(kernel: Callable[..., None], rows: int, threads: int, *arguments: Any) -> None:
    """Call ``kernel(first, end, *arguments)`` for parts of ``rows`` that lie side by side, in so many threads."""
    parts = min(rows, threads * PARTS) if threads > 1 else 1
    edges = [rows * part // parts for part in range(parts + 1)]
    waiting = iter(list(pairwise(edges)))

    def work() -> None:
        for first, end in waiting:
            kernel(first, end, *arguments)

    others = [_pool(os.getpid(), threads - 1).submit(work) for _ in range(min(threads, parts) - 1)]
    work()
    for other in others:
        other.result()


@lru_cache(maxsize=4)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process: those of the one it was forked from are not there."""
    return ThreadPoolExecutor(threads, "label map")


@_kernel
def find_winners(first_row, end_row, logits, winner, clear):  # type: ignore[no-untyped-def]
    """The first largest class of each of ``[K, h, w]`` values, and whether no rounding could give it to another.

    Done are the rows from ``first_row`` to before ``end_row``.
    """
    classes, _, width = logits.shape
    for i in range(first_row, end_row):
        best, number = np.empty(width, np.float32), np.zeros(width, np.int32)
        second = np.full(width, -np.inf, np.float32)
        for j in range(width):
            best[j] = logits[0, i, j]
        for k in range(1, classes):
            for j in range(width):
                value, largest = logits[k, i, j], best[j]
                second[j] = max(second[j], min(value, largest))
                number[j] = k if value > largest else number[j]
                best[j] = max(value, largest)
        for j in range(width):
            winner[i, j] = number[j]
            clear[i, j] = best[j] - second[j] > SLACK * abs(best[j])


@_kernel
def label_cells(  # type: ignore[no-untyped-def]
    first_row, end_row, logits, winner, clear, row_starts, tops, fy, column_starts, lefts, fx, labels
):
    """Label every pixel: a cell whose four corners agree in one stroke, the others by the classes that can win there.

    Args:
        first_row, end_row: rows of cells that are labelled, the last one excluded.
        logits: float32 ``[K, h, w]``, contiguous, all finite.
        winner, clear: of :func:`find_winners`.
        row_starts, tops: first output row of each row of cells, with the end behind the last, and its upper logit row.
        fy: of each output row, the weight of the lower logit row.
        column_starts, lefts, fx: the same along the columns.
        labels: uint8 ``[H, W]``, written.
    """
    classes, height, width = logits.shape
    cells = lefts.size
    for row in range(first_row, end_row):
        t, first = tops[row], row_starts[row]
        b, end = min(t + 1, height - 1), row_starts[row + 1]
        mixed, count = np.empty(cells, np.int32), 0
        for cell in range(cells):
            p = lefts[cell]
            q = min(p + 1, width - 1)
            k = winner[t, p]
            agree = k == winner[t, q] and k == winner[b, p] and k == winner[b, q]
            if agree and clear[t, p] and clear[t, q] and clear[b, p] and clear[b, q]:
                for x in range(column_starts[cell], column_starts[cell + 1]):
                    labels[first, x] = k
            else:
                mixed[count] = cell
                count += 1
        for y in range(first + 1, end):
            for x in range(labels.shape[1]):
                labels[y, x] = labels[first, x]
        if count == 0:
            continue

        corners, ids = np.empty((classes, 4), np.float32), np.empty(classes, np.uint8)
        upper, lower = np.empty((classes, BLOCK), np.float32), np.empty((classes, BLOCK), np.float32)
        best, chosen = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
        wp, wq = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
        leaders, bar = np.empty(4, np.int32), np.empty(4, np.float32)
        for number in range(count):
            cell = mixed[number]
            p = lefts[cell]
            q = min(p + 1, width - 1)
            # The mean of the corners' winners lies nowhere above the largest class: what stays below it at every
            # corner, by more than rounding, wins nowhere.
            leaders[0], leaders[1], leaders[2], leaders[3] = winner[t, p], winner[t, q], winner[b, p], winner[b, q]
            bar[:] = np.float32(0)
            size = np.float32(0)
            for leader in leaders:
                values = logits[leader, t, p], logits[leader, t, q], logits[leader, b, p], logits[leader, b, q]
                for corner in range(4):
                    bar[corner] += values[corner] * np.float32(0.25)
                    size = max(size, abs(values[corner]))
            rivals = 0
            for k in range(classes):
                tp, tq, bp, bq = logits[k, t, p], logits[k, t, q], logits[k, b, p], logits[k, b, q]
                most = max(max(tp - bar[0], tq - bar[1]), max(bp - bar[2], bq - bar[3]))
                own = max(max(abs(tp), abs(tq)), max(abs(bp), abs(bq)))
                if most >= -SLACK * max(size, own):
                    corners[rivals, 0], corners[rivals, 1], corners[rivals, 2], corners[rivals, 3] = tp, tq, bp, bq
                    ids[rivals] = k
                    rivals += 1
            for x in range(column_starts[cell], column_starts[cell + 1], BLOCK):
                length = min(BLOCK, column_starts[cell + 1] - x)
                for i in range(length):
                    wq[i] = fx[x + i]
                    wp[i] = np.float32(1.0) - wq[i]
                for r in range(rivals):
                    tp, tq, bp, bq = corners[r, 0], corners[r, 1], corners[r, 2], corners[r, 3]
                    for i in range(BLOCK):
                        upper[r, i] = _fma(tp, wp[i], tq * wq[i])
                        lower[r, i] = _fma(bp, wp[i], bq * wq[i])
                for y in range(first, end):
                    wb = fy[y]
                    wt = np.float32(1.0) - wb
                    for i in range(BLOCK):
                        best[i] = _fma(upper[0, i], wt, lower[0, i] * wb)
                        chosen[i] = 0
                    for r in range(1, rivals):
                        for i in range(BLOCK):
                            value = _fma(upper[r, i], wt, lower[r, i] * wb)
                            chosen[i] = r if value > best[i] else chosen[i]
                            best[i] = max(value, best[i])
                    for i in range(length):
                        labels[y, x + i] = ids[chosen[i]]
