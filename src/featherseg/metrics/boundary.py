"""Boundary IoU: the IoU of thin bands along the contours (Cheng et al. 2021, Sec. 4).

Choices worth knowing:

- The band of a class is the part of its mask within d pixels of a pixel that is not of the class, by chessboard
  distance: what d erosions with a 3x3 square take away, as in the authors' published implementation. d is 2 % of the
  image diagonal, rounded, at least 1.
- Outside the image nothing is of any class, so the image border counts as contour (the same implementation pads with
  zeros).
- Ignored pixels belong to no class in the truth nor in the prediction: they are counted nowhere, and the edge of an
  ignored region is a contour of both, as the image border is.
- Counts are summed over images, per class, before any ratio is taken.
- The masks of a label map do not overlap, so one pass serves all classes: a pixel lies in the band of its own class
  exactly when the ids in its (2d+1)-square are not all equal.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from featherseg.metrics.confusion import mean_of_present


@dataclass(frozen=True)
class BoundaryCounts:
    """Pixels in the intersection and in the union of true and predicted bands, int64 ``[K]`` each. Counts add up."""

    intersection: np.ndarray
    union: np.ndarray

    @classmethod
    def zeros(cls, num_classes: int) -> "BoundaryCounts":
        return cls(np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64))

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        return BoundaryCounts(self.intersection + other.intersection, self.union + other.union)

    def iou_per_class(self) -> np.ndarray:
        """float64 ``[K]`` in 0..1; NaN for a class with no band in truth and prediction."""
        out = np.full(self.union.shape, np.nan)
        return np.divide(self.intersection, self.union, out=out, where=self.union > 0)

    def mean_iou(self) -> float:
        """Mean over the classes that have a boundary IoU; NaN where none has."""
        return float(mean_of_present(self.iou_per_class()))


def boundary_counts(
    truth: np.ndarray, prediction: np.ndarray, num_classes: int, ignore: int = 255, dilation_ratio: float = 0.02
) -> BoundaryCounts:
    """Count one image.

    Args:
        truth: uint8 ``[H, W]``, ids 0..K-1 or ``ignore``.
        prediction: uint8 ``[H, W]``, ids 0..K-1.
        num_classes: K, at most 255.
        ignore: the truth id whose pixels are left out; no class may have it.
        dilation_ratio: band width d as a share of the image diagonal.

    Raises:
        ValueError: the shapes differ or are not ``[H, W]``, or ``ignore`` is the id of a class.
    """
    if truth.ndim != 2 or truth.shape != prediction.shape:
        raise ValueError(f"truth and prediction must be [H, W] alike, not {truth.shape} and {prediction.shape}")
    if not num_classes <= ignore <= 255:
        raise ValueError(f"ignore must be {num_classes}..255, the id of no class, not {ignore}")
    distance = band_width(truth.shape[0], truth.shape[1], dilation_ratio)
    judged = np.where(truth == ignore, truth, prediction)
    true_band = np.where(contour_band(truth, distance), truth, np.uint8(ignore))
    predicted_band = np.where(contour_band(judged, distance), judged, np.uint8(ignore))

    true = _histogram(true_band, num_classes)
    predicted = _histogram(predicted_band, num_classes)
    both = _histogram(true_band[true_band == predicted_band], num_classes)
    return BoundaryCounts(both, true + predicted - both)


def band_width(height: int, width: int, dilation_ratio: float = 0.02) -> int:
    """d in pixels: the share of the diagonal, rounded, at least 1."""
    return max(1, round(dilation_ratio * float(np.hypot(height, width))))


def contour_band(labels: np.ndarray, distance: int) -> np.ndarray:
    """Tell which pixels have another id, or the outside of the image, within ``distance`` (chessboard).

    ``labels`` is uint8 ``[H, W]``; the result is bool ``[H, W]``.
    """
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    band = cv2.dilate(labels, square) != cv2.erode(labels, square)
    band[:distance] = band[-distance:] = True
    band[:, :distance] = band[:, -distance:] = True
    return band


def _histogram(ids: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(ids.ravel(), minlength=256)[:num_classes].astype(np.int64)
