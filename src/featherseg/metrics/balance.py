"""How much each class should be favoured so that the mean IoU is greatest: one number a class, added to its logits.

A network trained with cross-entropy decides for the likeliest class, which is right for pixel accuracy. The IoU of a
rare class pays less for a false alarm than for a miss, so that its best threshold lies below one half (Nowozin,
"Optimal decisions from probabilistic models: the intersection-over-union case", CVPR 2014). The numbers are found by
coordinate ascent: with all others fixed, the score at every number of one class is known exactly from one histogram of
the distances by which the class loses or wins.
"""

import numpy as np

from featherseg.metrics.confusion import mean_of_present

REACH, STEP = 3.0, 0.05
_LEAST_GAIN = 1e-5
_MOST_ROUNDS = 12


def mean_iou_of_scores(scores: np.ndarray, labels: np.ndarray) -> float:
    """mIoU, as a fraction, of deciding for the greatest of ``scores`` ``[N, K]`` where ``labels`` ``[N]`` are true."""
    return float(_mean_iou(*_counts(scores.argmax(1), labels, scores.shape[1])))


def balancing_biases(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The numbers to be added to the logits for the greatest mIoU; their mean is 0.

    Args:
        logits: float32 ``[N, K]``, K >= 2, of labelled pixels.
        labels: ids ``[N]``, 0..K-1.

    Returns:
        float32 ``[K]``, multiples of 0.05 before they are centred; zeros where nothing is gained.

    Raises:
        ValueError: no pixel, fewer than two classes, or shapes that do not fit.
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != (len(logits),) or not len(logits):
        raise ValueError(f"logits [N, K] and labels [N] with N >= 1 and K >= 2, not {logits.shape} and {labels.shape}")
    scores = np.array(logits, np.float32)
    labels = labels.astype(np.int64)
    biases = np.zeros(scores.shape[1], np.float32)
    best = mean_iou_of_scores(scores, labels)
    for _ in range(_MOST_ROUNDS):
        before = best
        for number in range(len(biases)):
            score, shift = _best_shift(scores, labels, number)
            if score > best + _LEAST_GAIN:
                scores[:, number] += shift
                biases[number] += shift
                best = mean_iou_of_scores(scores, labels)
        if best <= before + _LEAST_GAIN:
            break
    return biases - biases.mean()


def _best_shift(scores: np.ndarray, labels: np.ndarray, number: int) -> tuple[float, np.float32]:
    """The greatest mIoU that shifting one class's scores reaches, and the shift."""
    classes = scores.shape[1]
    rivals = scores.copy()
    rivals[:, number] = -np.inf
    rival = rivals.argmax(1)
    needed = rivals[np.arange(len(rival)), rival] - scores[:, number]  # the class wins with any greater shift
    shifts = np.arange(-REACH, REACH + STEP / 2, STEP)
    turn = np.searchsorted(shifts, needed, side="right")  # the first shift with which it wins; len(shifts): none
    places = len(shifts) + 1

    def won(where: np.ndarray) -> np.ndarray:
        """Of the pixels ``where``, how many are the class's at each shift, by the rival that had them: ``[S, K]``."""
        counted = np.bincount(turn[where] * classes + rival[where], minlength=places * classes)
        return counted.reshape(places, classes).cumsum(0)[:-1]

    everywhere = np.ones(len(labels), bool)
    true = np.bincount(labels, minlength=classes)
    taken, taken_right = won(everywhere), won(rival == labels)
    predicted = np.bincount(rival, minlength=classes) - taken
    hits = np.bincount(rival[rival == labels], minlength=classes) - taken_right
    predicted[:, number] = taken.sum(1)
    hits[:, number] = won(labels == number).sum(1)
    reached = _mean_iou(hits, predicted, np.broadcast_to(true, hits.shape))
    order = np.lexsort((np.abs(shifts), -np.round(reached, 9)))  # of equal ones the smallest
    return float(reached[order[0]]), np.float32(shifts[order[0]])


def _counts(predicted: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    return hits, np.bincount(predicted, minlength=classes), np.bincount(labels, minlength=classes)


def _mean_iou(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    union = predicted + true - hits
    return mean_of_present(np.divide(hits, union, out=np.full(union.shape, np.nan), where=union > 0))
