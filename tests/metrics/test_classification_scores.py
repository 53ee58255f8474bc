"""A classifier's scores and intervals, held against definitions, tables and draws of images."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.metrics.classification import (
    bootstrap_mean_class_accuracy,
    class_accuracy,
    mcnemar,
    mean_class_accuracy,
    paired_difference,
    wilson_interval,
)

ANSWERS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, Table I, method 3 (score, without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_as_printed(hits, count, low, high):
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_wilsons_bounds_are_the_shares_that_the_observation_is_just_compatible_with(answer, level):
    """The definition: |share - p| = z sqrt(p (1 - p) / n), solved by neither formula nor code of ours."""
    hits, count = answer
    bounds = wilson_interval(hits, count, level)
    scores = [abs(hits / count - p) - math.sqrt(p * (1 - p) / count) * _z(level) for p in bounds]
    assert scores == pytest.approx([0, 0], abs=1e-6)
    assert 0 <= bounds[0] <= hits / count <= bounds[1] <= 1


def _z(level: float) -> float:
    """The normal quantile, by bisection of the error function."""
    low, high = 0.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle / math.sqrt(2)) < level else (low, middle)
    return low


@given(ANSWERS)
def test_class_accuracy_is_the_share_of_each_classs_images(answers):
    truth, right = answers
    expected = []
    for k in range(5):
        own = [hit for true, hit in zip(truth, right, strict=True) if true == k]
        expected.append(sum(own) / len(own) if own else math.nan)
    found = class_accuracy(np.array(truth), np.array(right), 5)
    np.testing.assert_array_equal(found, expected)
    shown = [share for share in expected if not math.isnan(share)]
    assert mean_class_accuracy(np.array(truth), np.array(right), 5) == pytest.approx(sum(shown) / len(shown))


def test_the_interval_of_the_mean_class_accuracy_is_that_of_drawing_images():
    random = np.random.default_rng(3)
    truth = np.repeat(np.arange(4), [40, 10, 25, 5])
    right = random.random(80) < 0.7
    scores = []
    for _ in range(4000):
        drawn = random.integers(0, 80, 80)
        own = [right[drawn][truth[drawn] == k] for k in range(4)]
        scores.append(np.mean([hits.mean() for hits in own if hits.size]))
    found = bootstrap_mean_class_accuracy(truth, right, 4, resamples=4000)
    assert found == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])), abs=0.012)
    assert found == bootstrap_mean_class_accuracy(truth, right, 4, resamples=4000)


def test_the_paired_interval_is_that_of_drawing_images():
    random = np.random.default_rng(4)
    first, second = random.random(300) < 0.6, random.random(300) < 0.65
    drawn = random.integers(0, 300, (4000, 300))
    expected = np.quantile(second[drawn].mean(1) - first[drawn].mean(1), [0.025, 0.975])
    found = paired_difference(first, second)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.006)
    assert found.difference == pytest.approx(second.mean() - first.mean())


def test_pairing_tells_more_than_two_separate_intervals():
    """Both have the same 600 of 1,000 right, and the second 20 more."""
    first = np.arange(1000) < 600
    found = paired_difference(first, np.arange(1000) < 620)
    assert 0 < found.low < 0.02 < found.high < 0.03
    assert wilson_interval(600, 1000)[1] > 0.62
    assert (found.only_first, found.only_second, found.images) == (0, 20, 1000)


def test_trainings_of_several_seeds_are_compared_by_their_means_and_without_a_test():
    found = paired_difference(np.array([1.0, 0.5, 0.0]), np.array([1.0, 1.0, 0.5]))
    assert found.difference == pytest.approx(1 / 3)
    assert found.p_value is found.only_first is None


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_sums_the_binomial_tail(only_first, only_second):
    total = only_first + only_second
    chances = [
        math.factorial(total) / (math.factorial(k) * math.factorial(total - k)) / 2**total for k in range(total + 1)
    ]
    observed = chances[only_first]
    expected = sum(chance for chance in chances if chance <= observed * (1 + 1e-9))
    assert mcnemar(only_first, only_second) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second"), [([], []), ([1], [1, 0]), ([2], [0]), ([-0.1], [0])], ids=["none", "lengths", "above", "below"]
)
def test_what_is_no_pair_of_answers_is_refused(first, second):
    with pytest.raises(ValueError, match=r"compared|right"):
        paired_difference(np.array(first, float), np.array(second, float))
