"""Expected calibration error: how far confidence is from being right (Guo et al. 2017, Eq. 3).

Choices worth knowing:

- M equal-width bins ``((m-1)/M, m/M]``, 15 by default; a confidence of exactly 0 joins the first.
- What is kept is one count, one sum of confidences and one count of hits for each bin: constant memory over any number
  of images, and parts counted apart can be added.
- A float32 confidence times M is exact in float64, so no pixel lands in a neighbouring bin by rounding.
"""

from dataclasses import dataclass

import numpy as np

# A mean of softmax outputs in float32 may pass 1 by a few roundings; more than this is not a probability.
SLACK = 1e-4


@dataclass(frozen=True)
class CalibrationCounts:
    """Pixels, hits (int64 ``[M]`` each) and summed confidence (float64 ``[M]``) of each bin. Counts add up."""

    pixels: np.ndarray
    hits: np.ndarray
    confidence: np.ndarray

    @classmethod
    def zeros(cls, bins: int = 15) -> "CalibrationCounts":
        return cls(np.zeros(bins, np.int64), np.zeros(bins, np.int64), np.zeros(bins, np.float64))

    def __add__(self, other: "CalibrationCounts") -> "CalibrationCounts":
        if len(self.pixels) != len(other.pixels):
            raise ValueError(f"counts of {len(self.pixels)} and of {len(other.pixels)} bins cannot be added")
        return CalibrationCounts(self.pixels + other.pixels, self.hits + other.hits, self.confidence + other.confidence)

    def accuracy_per_bin(self) -> np.ndarray:
        """Share of right pixels, float64 ``[M]``; NaN for an empty bin."""
        return _ratio(self.hits, self.pixels)

    def confidence_per_bin(self) -> np.ndarray:
        """Mean confidence, float64 ``[M]``; NaN for an empty bin."""
        return _ratio(self.confidence, self.pixels)

    def expected_error(self) -> float:
        """The expected calibration error in 0..1: mean gap of the bins, weighted by pixels; NaN where none counted."""
        total = int(self.pixels.sum())
        if total == 0:
            return float("nan")
        return float(np.abs(self.hits - self.confidence).sum() / total)


def calibration_counts(
    confidence: np.ndarray, correct: np.ndarray, valid: np.ndarray | None = None, bins: int = 15
) -> CalibrationCounts:
    """Count one image.

    Args:
        confidence: probability of the predicted class, float32 ``[H, W]`` (any shape) in 0..1.
        correct: whether the predicted class is right, bool of the same shape.
        valid: which pixels are judged, bool of the same shape; all, if None.
        bins: M.

    Raises:
        ValueError: the shapes differ, or a judged confidence is not a probability.
    """
    if valid is None:
        valid = np.ones(confidence.shape, bool)
    if not confidence.shape == correct.shape == valid.shape:
        raise ValueError(
            f"confidence {confidence.shape}, correct {correct.shape} and valid {valid.shape} differ in shape"
        )
    judged = confidence[valid].astype(np.float64)
    if judged.size and not (judged.min() >= 0.0 and judged.max() <= 1.0 + SLACK):
        raise ValueError(f"confidence must lie in 0..1, but it spans {judged.min()}..{judged.max()}")
    np.minimum(judged, 1.0, out=judged)
    index = np.maximum(np.ceil(judged * bins).astype(np.int64) - 1, 0)
    pixels = np.bincount(index, minlength=bins)
    hits = np.bincount(index[correct[valid]], minlength=bins)
    return CalibrationCounts(
        pixels.astype(np.int64), hits.astype(np.int64), np.bincount(index, weights=judged, minlength=bins)
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
