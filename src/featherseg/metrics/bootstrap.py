"""How much a mIoU would move had other images been drawn: percentile bootstrap over images (Efron 1979).

Choices worth knowing:

- Images are the units drawn, with replacement; each draw's score is read off the sum of its matrices, as the published
  figure is read off the sum of all. The interval speaks of the choice of test images, not of training seeds.
- A draw is a row of multinomial counts, so all draws are one matrix product. It runs in float64, which holds pixel
  counts exactly up to 2^53.
- The result is a pure function of the matrices and the seed.
"""

import numpy as np

from featherseg.metrics.confusion import AbsentRule, iou_per_class, mean_of_present
from featherseg.randomness import generator


def bootstrap_miou(
    confusions: np.ndarray, resamples: int = 1000, level: float = 0.95, seed: int = 0, absent: AbsentRule = "both"
) -> tuple[float, float]:
    """Confidence interval of the mIoU.

    Args:
        confusions: one matrix per image, int64 ``[N, K, K]``.
        resamples: how many times N images are drawn.
        level: share of the draws' scores that the interval holds, between 0 and 1.
        seed: of the draws.
        absent: the absent-class rule, applied to each draw.

    Returns:
        ``(low, high)`` as fractions in 0..1; NaN where no image has a judged pixel.

    Raises:
        ValueError: no image, matrices of another shape, or a level outside 0..1.
    """
    if confusions.ndim != 3 or confusions.shape[0] == 0 or confusions.shape[1] != confusions.shape[2]:
        raise ValueError(f"confusions must be [N, K, K] with N >= 1, not {confusions.shape}")
    if resamples < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"resamples must be >= 1 and level between 0 and 1, not {resamples} and {level}")
    images, classes, _ = confusions.shape
    draws = draw_counts(images, resamples, seed).astype(np.float64)
    sums = (draws @ confusions.reshape(images, -1).astype(np.float64)).reshape(resamples, classes, classes)
    scores = mean_of_present(iou_per_class(sums, absent))
    scores = scores[~np.isnan(scores)]
    if not scores.size:
        return float("nan"), float("nan")
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draw_counts(images: int, resamples: int, seed: int) -> np.ndarray:
    """How often each image is drawn: int64 ``[resamples, images]``, each row summing to ``images``."""
    return generator(seed, "bootstrap").multinomial(images, np.full(images, 1.0 / images), size=resamples)
