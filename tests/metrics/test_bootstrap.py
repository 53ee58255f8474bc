"""The bootstrap interval against drawing the images one by one, and against the coverage it promises."""

import math

import numpy as np
import pytest

from featherseg.metrics.bootstrap import bootstrap_miou, draw_counts
from featherseg.metrics.confusion import mean_iou


def images(count: int, seed: int, classes: int = 3) -> np.ndarray:
    """Per-image matrices with a good diagonal whose quality differs between images."""
    random = np.random.default_rng(seed)
    quality = random.uniform(0.3, 1.0, (count, 1, 1))
    diagonal = np.eye(classes) * quality + (1 - quality) / classes
    return random.poisson(200 * diagonal).astype(np.int64)


def test_the_interval_equals_summing_the_drawn_images_one_by_one():
    confusions = images(7, seed=1)
    scores = []
    for counts in draw_counts(7, 50, seed=5):
        total = np.zeros((3, 3), np.int64)
        for image, times in zip(confusions, counts, strict=True):
            for _ in range(times):
                total += image
        hits = [total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in range(3)]
        scores.append(sum(hits) / 3)
    low, high = bootstrap_miou(confusions, resamples=50, level=0.8, seed=5)
    assert low == pytest.approx(np.percentile(scores, 10), abs=1e-12)
    assert high == pytest.approx(np.percentile(scores, 90), abs=1e-12)


def test_every_draw_has_as_many_images_as_there_are():
    assert (draw_counts(9, 100, seed=0).sum(axis=1) == 9).all()


def test_the_interval_is_a_pure_function_of_the_seed():
    confusions = images(20, seed=2)
    assert bootstrap_miou(confusions, seed=1) == bootstrap_miou(confusions, seed=1)
    assert bootstrap_miou(confusions, seed=1) != bootstrap_miou(confusions, seed=2)


def test_intervals_cover_the_score_of_the_population_about_as_often_as_they_promise():
    population = mean_iou(images(20000, seed=3).sum(axis=0))
    trials = 150
    covered = 0
    for trial in range(trials):
        low, high = bootstrap_miou(images(60, seed=100 + trial), resamples=200, level=0.9, seed=trial)
        covered += low <= population <= high
    assert 0.8 <= covered / trials <= 0.97


def test_more_images_give_a_narrower_interval():
    few, many = (bootstrap_miou(images(count, seed=4)) for count in (20, 500))
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_one_image_gives_its_own_score_twice():
    confusions = images(1, seed=6)
    assert bootstrap_miou(confusions) == pytest.approx((mean_iou(confusions[0]),) * 2)


def test_images_without_a_judged_pixel_give_no_interval():
    assert all(math.isnan(bound) for bound in bootstrap_miou(np.zeros((4, 3, 3), np.int64)))


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="N >= 1"):
        bootstrap_miou(np.zeros((0, 3, 3), np.int64))
