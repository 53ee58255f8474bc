"""Scores of a classifier with their intervals, and whether two classifiers differ on the same images.

Choices worth knowing:

- A share of right answers has Wilson's interval (1927): it stays within 0..1 and holds its level for shares near 1 and
  for few images, where the usual normal interval does not. The mean of class accuracies has no such formula: images
  are drawn again (percentile bootstrap).
- Two classifiers judged on the same images are compared image by image. Most images are easy or hard for both and tell
  nothing of the difference, so that it is known far better than two separate intervals suggest.
- All draws are of counts: what can happen to an image falls into few kinds, and drawing N images is one multinomial
  draw over the kinds. Equal in distribution to drawing images, whatever their number.
- Everything is a pure function of its arguments; accuracies are fractions in 0..1.
"""

from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist

import numpy as np

from featherseg.randomness import generator


def wilson_interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the share ``hits`` / ``count`` (Wilson 1927).

    Raises:
        ValueError: there is no image, more hits than images, or a level outside 0..1.
    """
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"hits must be 0..count and count at least 1, not {hits} of {count}")
    z = NormalDist().inv_cdf(0.5 + _checked(level) / 2)
    share, spread = hits / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    # Exact at the ends, where the difference of two equal numbers is rounded.
    return 0.0 if hits == 0 else middle - half, 1.0 if hits == count else middle + half


def class_accuracy(truth: np.ndarray, right: np.ndarray, num_classes: int) -> np.ndarray:
    """The share of right answers among each class's images.

    Args:
        truth: integer class ids ``[N]``.
        right: bool ``[N]``.
        num_classes: K.

    Returns:
        float ``[K]``; NaN for a class without images.
    """
    return _shares(*_counts(truth, right, num_classes))


def mean_class_accuracy(truth: np.ndarray, right: np.ndarray, num_classes: int) -> float:
    """The mean of :func:`class_accuracy` over the classes that have images; NaN without images."""
    shares = class_accuracy(truth, right, num_classes)
    return float(np.nanmean(shares)) if not np.isnan(shares).all() else float("nan")


def bootstrap_mean_class_accuracy(
    truth: np.ndarray,
    right: np.ndarray,
    num_classes: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of :func:`mean_class_accuracy`: images drawn with replacement, ``resamples`` times.

    A draw that leaves a class without images has its mean over the others.

    Raises:
        ValueError: there is no image.
    """
    if not len(truth):
        raise ValueError("there is no image to draw from")
    counts = np.concatenate(_counts(truth, right, num_classes))
    draws = generator(seed, "bootstrap").multinomial(len(truth), counts / len(truth), size=resamples)
    scores = np.nanmean(_shares(draws[:, :num_classes], draws[:, num_classes:]), axis=-1)
    return _percentiles(scores, level)


@dataclass(frozen=True)
class PairedDifference:
    """How two classifiers differ over the same images.

    Attributes:
        first, second: their accuracies, each a mean over its trainings where there are several.
        difference: ``second - first``.
        low, high: its interval.
        only_first, only_second: images that one alone has right; None where there are several trainings.
        p_value: of McNemar's exact test that neither is better; None where there are several trainings.
        images: how many there are.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    only_first: int | None
    only_second: int | None
    p_value: float | None
    images: int


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Compare two classifiers over the same images, ``second`` minus ``first``.

    The interval is a paired bootstrap over images: it speaks of the choice of images. Where a value is the mean over
    several trainings, their spread enters only as far as it shows in these means.

    Args:
        first: ``[N]``, whether (or in which share of its trainings) the first has each image right, 0 to 1.
        second: likewise, of the same images in the same order.
        resamples: how many times N images are drawn.
        level: share of the draws' differences that the interval holds.
        seed: of the draws.

    Raises:
        ValueError: the shapes differ, there is no image, or a value is outside 0..1.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 1 or one.shape != two.shape or not one.size:
        raise ValueError(f"two lists of the same images are compared, not {one.shape} and {two.shape}")
    if min(one.min(), two.min()) < 0 or max(one.max(), two.max()) > 1:
        raise ValueError("each value is whether an image is right, 0 to 1")
    kinds, counts = np.unique(two - one, return_counts=True)
    draws = generator(seed, "bootstrap").multinomial(one.size, counts / one.size, size=resamples)
    low, high = _percentiles(draws @ kinds / one.size, level)
    only_first = only_second = p_value = None
    if np.isin(one, (0, 1)).all() and np.isin(two, (0, 1)).all():
        only_first, only_second = int(((one == 1) & (two == 0)).sum()), int(((one == 0) & (two == 1)).sum())
        p_value = mcnemar(only_first, only_second)
    difference = float((two - one).mean())
    return PairedDifference(
        float(one.mean()), float(two.mean()), difference, low, high, only_first, only_second, p_value, one.size
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that an image which one alone has right is as likely the first's as the second's.

    McNemar 1947, with the binomial distribution itself instead of its normal approximation.

    >>> mcnemar(1, 5)
    0.21875
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"numbers of images are not negative: {only_first}, {only_second}")
    total = only_first + only_second
    tail = sum(comb(total, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**total)


def _counts(truth: np.ndarray, right: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """How many images of each class are right, and how many are wrong: int64 ``[K]`` each."""
    truth, right = np.asarray(truth), np.asarray(right, bool)
    if truth.shape != right.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and right {right.shape} must both be [N]")
    if truth.size and not 0 <= int(truth.min()) <= int(truth.max()) < num_classes:
        raise ValueError(f"truth holds ids from {truth.min()} to {truth.max()}, and there are {num_classes} classes")
    return tuple(np.bincount(truth[chosen], minlength=num_classes) for chosen in (right, ~right))  # type: ignore


def _shares(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    total = right + wrong
    return np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)


def _percentiles(scores: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - _checked(level)) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    return level
