"""Whether two ways of training differ by more than their seeds do: means, spreads, and Student's interval.

Choices worth knowing:

- A score is one training's. The interval of a difference of means pools both spreads (Student's two-sample t), so that
  three seeds a side give four degrees of freedom; Welch's form would guess two variances from three numbers each.
- The quantile is found by bisection on the closed form of the distribution for whole degrees of freedom (Abramowitz and
  Stegun 26.7.3 and 26.7.4).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class MeanDifference:
    """The difference of two means, and the interval that holds the true one at the level asked for."""

    difference: float
    low: float
    high: float

    @property
    def exceeds_noise(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def mean_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> MeanDifference:
    """How much greater the mean of ``first`` is than that of ``second``.

    Args:
        first, second: one score a seed; two or more each.
        level: of the interval, between 0 and 1.

    Raises:
        ValueError: fewer than two scores on a side, or a level outside 0..1.
    """
    if min(len(first), len(second)) < 2 or not 0 < level < 1:
        raise ValueError(f"two scores or more a side and a level in 0..1, not {len(first)}, {len(second)} and {level}")
    freedom = len(first) + len(second) - 2
    squares = (len(first) - 1) * stdev(first) ** 2 + (len(second) - 1) * stdev(second) ** 2
    error = math.sqrt(squares / freedom * (1 / len(first) + 1 / len(second)))
    difference = fmean(first) - fmean(second)
    reach = student_t_quantile((1 + level) / 2, freedom) * error
    return MeanDifference(difference, difference - reach, difference + reach)


def student_t_quantile(probability: float, freedom: int) -> float:
    """The t below which Student's distribution has ``probability``, 0.5 or more, at ``freedom`` degrees (1 or more)."""
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"probability in 0.5..1 and one degree or more, not {probability} and {freedom}")
    low, high = 0.0, 1.0
    while _share_below(high, freedom) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if _share_below(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _share_below(t: float, freedom: int) -> float:
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    if freedom % 2:
        term, total = cosine, 0.0
        for k in range(3, freedom + 1, 2):
            total += term
            term *= cosine**2 * (k - 1) / k
        inside = 2 / math.pi * (angle + sine * total)
    else:
        term, total = 1.0, 0.0
        for k in range(2, freedom + 1, 2):
            total += term
            term *= cosine**2 * (k - 1) / k
        inside = sine * total
    return 0.5 + inside / 2
