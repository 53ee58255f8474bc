"""Augmented and mixed samples: the same whoever computes them, and mixed as their targets say."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.classification.folder import ImageFolder
from featherseg.classification.samples import ClassificationSamples, ImageAugmentation, Mixing, mixture
from featherseg.data.batches import BatchPlan

BATCH = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ImageFolder:
    """13 pictures of one colour each; the class is the tens digit."""
    root = tmp_path_factory.mktemp("plain")
    for number in range(13):
        path = root / f"train/{number // 5}/{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((9, 9, 3), 10 * number, np.uint8))
    return ImageFolder(Path(root), "train")


def samples(folder, **options) -> ClassificationSamples:
    return ClassificationSamples(folder, ImageAugmentation((8, 8)), 3, BATCH, **options)


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(cutmix=1.0), Mixing(0.4, 1.0, 0.7)], ids=str)
def test_an_update_is_the_same_in_several_processes_and_from_any_step(folder, mixing):
    """Each process asks for every n-th sample, and a resumed training begins in mid-epoch."""
    plan = BatchPlan(13, BATCH)
    whole = samples(folder, mixing=mixing)
    expected = {place: whole[place] for step in range(6) for place in plan.positions(step)}
    for first, rank, world in [(0, 0, 2), (0, 1, 2), (4, 0, 1), (3, 2, 3)]:
        part = samples(folder, mixing=mixing, cache=False)
        for step in range(first, 6):
            for place in plan.positions(step)[rank::world]:
                image, target, key = part[place]
                assert np.array_equal(image, expected[place][0])
                assert np.array_equal(target, expected[place][1])
                assert key == expected[place][2]


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(cutmix=1.0)], ids=["mixup", "cutmix"])
def test_targets_tell_the_classes_and_weights_of_what_is_shown(folder, mixing):
    """Of two pictures of one colour each the shares can be read off the pixels."""
    plain, mixed = samples(folder), samples(folder, mixing=mixing)
    shown = {place: plain[place] for place in BatchPlan(13, BATCH).positions(0)}
    mixtures = 0
    for place, (own, label, key) in shown.items():
        image, target, same_key = mixed[place]
        assert key == same_key
        assert (target.dtype, target.shape, target[0]) == (np.float32, (3,), label)
        partners = [other for other, number, _ in shown.values() if number == target[1]]
        fits = [
            partner
            for partner in partners
            if abs(image.mean() - target[2] * own.mean() - (1 - target[2]) * partner.mean()) < 0.51
        ]
        assert fits
        mixtures += not np.array_equal(image, own)
    assert mixtures >= 3


def test_without_mixing_targets_are_classes(folder):
    image, target, key = samples(folder)[0, 0]
    assert (image.shape, target.dtype, target.shape) == ((8, 8, 3), np.int64, ())
    assert folder.classes[int(target)] == key.split("/")[0]


def test_a_share_of_the_updates_stays_as_it_is(folder):
    never = samples(folder, mixing=Mixing(mixup=1.0, share=1e-9))
    image, target, _ = never[0, 2]
    assert np.array_equal(image, samples(folder)[0, 2][0])
    assert target[2] == 1


@given(st.integers(0, 9999), st.integers(2, 20), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_cutmix_weighs_by_the_pixels_that_remain(seed, count, size):
    mixed = mixture(Mixing(cutmix=1.0), count, size, np.random.default_rng(seed))
    own, other = np.zeros((*size, 3), np.uint8), np.ones((*size, 3), np.uint8)
    assert mixed is not None
    assert mixed(own, other).mean() == pytest.approx(1 - mixed.weight)
    assert sorted(mixed.partners) == list(range(count))


def test_mixup_weighs_evenly_distributed_alphas_as_beta_does():
    """Beta(0.2, 0.2) has the mean 1/2 and the variance 1/(4 (2 alpha + 1)) = 0.1786."""
    drawn = [mixture(Mixing(mixup=0.2), 4, (8, 8), np.random.default_rng(seed)).weight for seed in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.03)
    assert np.var(drawn) == pytest.approx(0.1786, abs=0.01)


def test_a_single_image_is_not_mixed():
    assert mixture(Mixing(mixup=1.0), 1, (8, 8), np.random.default_rng(0)) is None
