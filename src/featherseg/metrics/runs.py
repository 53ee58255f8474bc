"""Runs of equal pixels: label maps hold a hundred times fewer of them than pixels, and runs are counted as exactly."""

import numpy as np

DENSEST = 4
"""Pixels a run on average, below which counting single pixels is quicker."""


def runs(*maps: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Cut maps of one size, flattened, into stretches along which none of them changes.

    Args:
        maps: flat arrays ``[N]`` of one length.

    Returns:
        where each run begins and how many pixels it has, both ``[R]``; None where runs are so short that they save
        nothing.
    """
    size = maps[0].size
    if not size:
        return None
    begins = np.empty(size, bool)
    begins[0] = True
    np.not_equal(maps[0][1:], maps[0][:-1], out=begins[1:])
    for other in maps[1:]:
        begins[1:] |= other[1:] != other[:-1]
    if np.count_nonzero(begins) * DENSEST > size:
        return None
    starts = np.flatnonzero(begins)
    return starts, np.diff(starts, append=size)
