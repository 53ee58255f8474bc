"""Confusion counts and the scores read off them.

Choices worth knowing:

- Counts are int64 and add up: the score of a data set is read off the sum of its images' matrices, never averaged
  over images.
- Rows are the truth, columns the prediction. Ignored pixels are counted nowhere.
- Scores are fractions in 0..1. A score with nothing to judge is NaN and is left out of means.
- A class absent from truth and prediction has no IoU (``absent="both"``, the rule of every figure the project
  publishes). With ``absent="truth"`` a class absent from the truth has none either, even where it was predicted.
- Every function of a matrix takes leading dimensions too, ``[..., K, K]``: one matrix per image, or per resample.
"""

from typing import Literal

import numpy as np

from featherseg.metrics.runs import runs

AbsentRule = Literal["both", "truth"]


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int, ignore: int = 255) -> np.ndarray:
    """Count the pairs (true id, predicted id).

    Args:
        truth: integer ids of any shape, 0..K-1 or ``ignore``; uint8 is the fast case.
        prediction: integer ids 0..K-1 of the same shape.
        num_classes: K, at most 256.
        ignore: the truth id whose pixels are left out.

    Returns:
        int64 ``[K, K]``, rows truth, columns prediction.

    Raises:
        ValueError: the shapes differ, or an id is out of range; the message names the ids. A prediction is judged at
            ignored pixels too: an id that no class has is a defect wherever it stands.
    """
    if not 1 <= num_classes <= 256:
        raise ValueError(f"num_classes must be 1..256, not {num_classes}")
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has the shape {truth.shape} but the prediction {prediction.shape}")
    true, predicted = _bytes_of(truth, "truth").ravel(), _bytes_of(prediction, "prediction").ravel()
    stretches, lengths = runs(true, predicted), None
    if stretches is not None:
        starts, lengths = stretches
        true, predicted = true[starts], predicted[starts]
    # One histogram of the 65,536 possible byte pairs serves the counts and both range checks.
    pair = true.astype(np.uint16)
    pair <<= np.uint16(8)
    pair |= predicted
    counts = np.bincount(pair, lengths, minlength=65536).reshape(256, 256).astype(np.int64)

    true_ids = np.flatnonzero(counts.any(axis=1))
    strange = [int(i) for i in true_ids if i >= num_classes and i != ignore]
    if strange:
        raise ValueError(f"truth holds ids {strange}, which are neither 0..{num_classes - 1} nor ignore ({ignore})")
    strange = [int(i) for i in np.flatnonzero(counts.any(axis=0)) if i >= num_classes]
    if strange:
        raise ValueError(f"prediction holds ids {strange}, which are not 0..{num_classes - 1}")

    matrix = counts[:num_classes, :num_classes].copy()
    if 0 <= ignore < num_classes:
        matrix[ignore] = 0
    return matrix


def iou_per_class(confusion: np.ndarray, absent: AbsentRule = "both") -> np.ndarray:
    """Intersection over union of each class, true positives / (TP + FP + FN).

    Args:
        confusion: counts ``[..., K, K]``.
        absent: ``"both"``: NaN for a class absent from truth and prediction. ``"truth"``: NaN for a class absent from
            the truth, whether predicted or not.

    Returns:
        float64 ``[..., K]``.
    """
    hits, true, predicted = _marginals(confusion)
    if absent not in ("both", "truth"):
        raise ValueError(f"absent must be 'both' or 'truth', not {absent!r}")
    union = true + predicted - hits
    return _ratio(hits, union if absent == "both" else np.where(true > 0, union, 0))


def mean_iou(confusion: np.ndarray, absent: AbsentRule = "both") -> float:
    """Mean of :func:`iou_per_class` over the classes that have one; NaN where none has. ``confusion`` is ``[K, K]``."""
    return float(mean_of_present(iou_per_class(confusion, absent)))


def mean_of_present(scores: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the scores that are not NaN; NaN where all are. ``[..., K]`` to ``[...]``."""
    present = ~np.isnan(scores)
    return _ratio(np.where(present, scores, 0.0).sum(axis=-1), present.sum(axis=-1))


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of the judged pixels that have the right class; NaN where none was judged. ``confusion`` is ``[K, K]``."""
    hits, true, _ = _marginals(confusion)
    return float(_ratio(hits.sum(axis=-1), true.sum(axis=-1)))


def class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Recall of each class, TP / (TP + FN): float64 ``[..., K]``, NaN for a class absent from the truth."""
    hits, true, _ = _marginals(confusion)
    return _ratio(hits, true)


def frequency_weighted_iou(confusion: np.ndarray) -> float:
    """IoU averaged with each class's share of the true pixels as its weight (Long et al. 2015, Sec. 5).

    A class absent from the truth weighs nothing, so the absent-class rule makes no difference here.
    """
    _, true, _ = _marginals(confusion)
    weighted = np.where(true > 0, true * np.nan_to_num(iou_per_class(confusion)), 0.0)
    return float(_ratio(weighted.sum(axis=-1), true.sum(axis=-1)))


def _marginals(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, true and predicted counts of each class, ``[..., K]`` each."""
    confusion = np.asarray(confusion)
    if confusion.ndim < 2 or confusion.shape[-1] != confusion.shape[-2]:
        raise ValueError(f"a confusion matrix is [..., K, K], not {confusion.shape}")
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return hits, confusion.sum(axis=-1), confusion.sum(axis=-2)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole`` as float64, NaN where ``whole`` is zero, without a warning."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _bytes_of(ids: np.ndarray, what: str) -> np.ndarray:
    """``ids`` as uint8, refused where that would change one."""
    if ids.dtype == np.uint8:
        return ids
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{what} must hold integer ids, not {ids.dtype}")
    strange = np.unique(ids[(ids < 0) | (ids > 255)])
    if strange.size:
        raise ValueError(f"{what} holds ids {[int(i) for i in strange[:10]]}, which no byte can hold")
    return ids.astype(np.uint8)
