"""Non-maximum suppression, exact and class-aware, compiled.

Greedy by falling score: a box is kept unless a box of its class that was kept before overlaps it by an IoU above the
threshold. Boxes of equal score come in the order of their indices.

Design choices:
- the whole N x N table of overlaps is never made: boxes are laid out along one axis, and a kept box looks only at those
  whose centres are near enough. For an IoU of t the smaller side is at least t times the larger and the centres are
  apart by at most (1 - t) times the larger, hence by (1 - t) / t times the kept box's own side. Of the two axes the
  one is taken on which these windows hold fewer boxes;
- within a window the overlaps are computed without branches, so that the compiler makes vectors of them;
- arithmetic is in float64, in which differences of float32 coordinates of pixels and their products are exact to the
  last bits: whoever computes the same formula gets the same decision, ties with the threshold included.
"""

import numba
import numpy as np

from featherseg.errors import FeathersegError


@numba.njit(cache=True)
def _suppress(x1, y1, x2, y2, area, low, high, order, threshold, limit):
    """Places of the kept boxes, in the order they are kept.

    All but ``order``, which lists places by falling score, is by place along the axis; ``low`` and ``high`` bound each
    box's window.
    """
    gone = np.zeros(order.size, np.bool_)
    kept = np.empty(min(limit, order.size), np.int64)
    count = 0
    for place in order:
        if gone[place]:
            continue
        if count == limit:
            break
        kept[count] = place
        count += 1
        a, b, c, d, own = x1[place], y1[place], x2[place], y2[place], area[place]
        # Slices from 0 and choices instead of min and max: only so does the compiler make vectors of the loop.
        start, stop = low[place], high[place]
        left, top, right, bottom = x1[start:stop], y1[start:stop], x2[start:stop], y2[start:stop]
        theirs, dropped = area[start:stop], gone[start:stop]
        for other in range(stop - start):
            wide = (right[other] if right[other] < c else c) - (left[other] if left[other] > a else a)
            tall = (bottom[other] if bottom[other] < d else d) - (top[other] if top[other] > b else b)
            shared = (wide if wide > 0.0 else 0.0) * (tall if tall > 0.0 else 0.0)
            dropped[other] |= shared > threshold * (own + theirs[other] - shared)
    return kept[:count]


def _windows(low: np.ndarray, high: np.ndarray, group: np.ndarray, threshold: float) -> tuple[np.ndarray, ...]:
    """Boxes in the order of their centres, group by group, and the bounds of each one's window in that order."""
    centre = (low + high) / 2
    order = np.lexsort((centre, group))
    centre, side, group = centre[order], (high - low)[order], group[order]
    first = np.searchsorted(group, group, "left")
    last = np.searchsorted(group, group, "right")
    if threshold <= 0:
        return order, first, last
    reach = side * ((1 - threshold) / threshold)
    # One sorted line for all groups: each is moved behind the one before.
    line = centre + group * (float(centre.max() - centre.min() + 2 * reach.max()) + 1.0)
    # A little more than the bound, for the rounding of places on the line.
    reach = reach + 8 * np.spacing(np.abs(line).max() + reach.max())
    near = np.searchsorted(line, line - reach, "left")
    far = np.searchsorted(line, line + reach, "right")
    return order, np.maximum(near, first), np.minimum(far, last)


def check_boxes(boxes: np.ndarray, scores: np.ndarray, where: str = "the boxes") -> None:
    """Refuse boxes that are no boxes.

    Raises:
        FeathersegError: shapes disagree, or a number is NaN or infinite, or a box's right or lower edge lies before its
            left or upper one; the message names the first one.
    """
    if boxes.ndim != 2 or boxes.shape[1:] != (4,) or scores.shape != boxes.shape[:1]:
        raise FeathersegError(
            f"{where} have the shape {list(boxes.shape)} and their scores {list(scores.shape)}; give [N, 4] as x1, y1, "
            "x2, y2, and [N]."
        )
    wrong = ~np.isfinite(boxes).all(1) | ~np.isfinite(scores)
    if wrong.any():
        index = int(wrong.argmax())
        raise FeathersegError(
            f"{where} hold numbers that are not finite; the first is box {index}, {boxes[index].tolist()} with score "
            f"{float(scores[index])}. If a network gave them, its weights are spoilt: train again with a lower "
            "optimizer.lr; if a file, write it again."
        )
    turned = (boxes[:, 2:] < boxes[:, :2]).any(1)
    if turned.any():
        index = int(turned.argmax())
        raise FeathersegError(
            f"{where} hold one whose right or lower edge lies before its left or upper one: box {index}, "
            f"{boxes[index].tolist()}. Give x1, y1, x2, y2."
        )


def nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    iou: float = 0.5,
    limit: int | None = None,
) -> np.ndarray:
    """Indices int64 of the boxes that are kept, by falling score.

    Args:
        boxes: float ``[N, 4]`` as x1, y1, x2, y2.
        scores: float ``[N]``.
        labels: integers ``[N]``; boxes of different labels do not suppress each other. None: all are of one.
        iou: a box is dropped whose intersection over union with a kept one is above this; 0 to 1.
        limit: stop after that many.

    Raises:
        FeathersegError: a number is not finite, shapes disagree, or ``iou`` is no share.
    """
    boxes, scores = np.asarray(boxes), np.asarray(scores)
    check_boxes(boxes, scores)
    if not 0 <= iou <= 1:
        raise FeathersegError(f"the IoU of suppression is {iou!r}; it must be from 0 to 1, 0.5 say.")
    group = np.zeros(len(boxes), np.int64)
    if labels is not None:
        if np.shape(labels) != scores.shape:
            raise FeathersegError(f"there are {len(boxes)} boxes and labels of shape {list(np.shape(labels))}.")
        group = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    if not len(boxes):
        return np.zeros(0, np.int64)
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    choices = (_windows(x1, x2, group, iou), _windows(y1, y2, group, iou))
    places, low, high = min(choices, key=lambda choice: int((choice[2] - choice[1]).sum()))
    rank = np.empty(len(boxes), np.int64)
    rank[places] = np.arange(len(boxes))
    order = rank[np.argsort(-scores.astype(np.float64), kind="stable")]
    x1, y1, x2, y2 = x1[places], y1[places], x2[places], y2[places]
    area = (x2 - x1) * (y2 - y1)
    kept = _suppress(x1, y1, x2, y2, area, low, high, order, float(iou), len(boxes) if limit is None else max(limit, 0))
    return places[kept]
