"""A sliding window for images larger than a network was trained on: windows overlap, their logits are blended.

Choices worth knowing:

- Windows lie as evenly as whole pixels allow, the first and the last at the edges; none reaches beyond the image.
- A window counts most in its middle: its weights fall linearly towards its edges, and are divided by the sum of all, so
  that they sum to one at every pixel. Rows and columns are weighted apart, which keeps that sum exact.
- The image is done in bands of rows that no further window touches: the memory is that of one row of windows, however
  high the image is.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int]
OVERLAP = 0.25


def window_starts(length: int, window: int, overlap: float = OVERLAP) -> list[int]:
    """Where windows begin along an axis: as few as share at least ``overlap`` of themselves with the next.

    >>> window_starts(100, 40, 0.25)
    [0, 30, 60]
    """
    if window >= length:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    gaps = -(-(length - window) // step)
    return [number * (length - window) // gaps for number in range(gaps + 1)]


def window_weights(length: int, window: int, starts: list[int]) -> np.ndarray:
    """The weights float32 ``[len(starts), window]`` of windows along an axis; they sum to one at every pixel."""
    place = np.arange(window)
    ramp = np.minimum(place + 1, window - place).astype(np.float64)
    total = np.zeros(length)
    for start in starts:
        total[start : start + window] += ramp
    return np.stack([ramp / total[start : start + window] for start in starts]).astype(np.float32)


def blended_bands(
    logits_of: Callable[[np.ndarray], Tensor], image: np.ndarray, window: Size, overlap: float = OVERLAP
) -> Iterator[tuple[int, Tensor]]:
    """Blended logits of an image, from the top to the bottom.

    Args:
        logits_of: float ``[K, h, w]`` of uint8 pixels ``[h, w, 3]``.
        image: uint8 ``[H, W, 3]``.
        window: (h, w); a side that is longer than the image's is as long as that.
        overlap: the least share of a window that the next one covers too.

    Yields:
        (first row, logits float ``[K, rows, W]``), the next band beginning where this one ends.
    """
    height, width = image.shape[:2]
    window = (min(window[0], height), min(window[1], width))
    tops, lefts = window_starts(height, window[0], overlap), window_starts(width, window[1], overlap)
    down, across = window_weights(height, window[0], tops), window_weights(width, window[1], lefts)
    held: Tensor | None = None
    for number, top in enumerate(tops):
        for left, columns in zip(lefts, across, strict=True):
            found = logits_of(image[top : top + window[0], left : left + window[1]])
            if held is None:
                held = found.new_zeros((found.shape[0], window[0], width))
            weight = torch.from_numpy(np.outer(down[number], columns)).to(found.device)
            held[:, :, left : left + window[1]].addcmul_(found, weight)
        assert held is not None
        below = tops[number + 1] if number + 1 < len(tops) else height
        done = below - top
        finished, rest = held[:, :done], held[:, done:]
        held = torch.zeros_like(held)
        held[:, : rest.shape[1]] = rest
        yield top, finished
