"""The official judgement: equal to cityscapesscripts on any labels, instances and predictions."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featherseg.metrics import cityscapes
from featherseg.metrics.cityscapes_labels import (
    AVERAGE_INSTANCE_SIZE,
    CATEGORIES,
    INSTANCE_IDS,
    LABEL_IDS,
    LABELS,
    label_ids_of,
)
from featherseg.metrics.confusion import confusion_matrix, iou_per_class, mean_of_present
from official_cityscapes import official_scores_of_arrays

WITH_INSTANCES = [label.id for label in LABELS if label.has_instances]


Frame = tuple[np.ndarray, np.ndarray, np.ndarray]  # label ids, instance ids, predicted label ids


def confusion_of(frames: list[Frame]) -> np.ndarray:
    return sum(
        (confusion_matrix(truth, prediction, cityscapes.IDS, ignore=-1) for truth, _, prediction in frames),
        np.zeros((cityscapes.IDS, cityscapes.IDS), np.int64),
    )


def counts_of(frames: list[Frame]) -> cityscapes.InstanceCounts:
    return sum(
        (cityscapes.instance_counts(instances, prediction) for _, instances, prediction in frames),
        cityscapes.InstanceCounts.zeros(),
    )


@st.composite
def frames(draw) -> list[Frame]:
    """Images of a few pixels: any label ids and predictions; instances, crowds and void that need not agree."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    used = random.permutation(34)[: draw(st.integers(1, 34))]  # the other ids are absent everywhere
    made = []
    for _ in range(draw(st.integers(1, 3))):
        shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
        truth = random.choice(used, shape).astype(np.uint8)
        prediction = np.where(random.random(shape) < 0.5, truth, random.choice(used, shape)).astype(np.uint8)
        numbers = random.integers(0, 3, shape)
        single = np.isin(truth, WITH_INSTANCES) & (random.random(shape) < 0.8)
        instances = np.where(single, truth.astype(int) * 1000 + numbers, truth).astype(np.uint16)
        if draw(st.booleans()):  # instances that contradict the labels, and ones of void
            strange = random.choice([*WITH_INSTANCES, 1, 3], shape) * 1000 + numbers
            instances = np.where(random.random(shape) < 0.3, strange, instances).astype(np.uint16)
        wide = draw(st.sampled_from([1, 8]))  # long runs of equal pixels are counted another way
        made.append(tuple(np.repeat(picture, wide, axis=1) for picture in (truth, instances, prediction)))
    return made


def assert_equal(ours: np.ndarray, names: list[str], official: dict[str, float]) -> None:
    for name, score in zip(names, ours, strict=True):
        assert math.isclose(score, official[name], rel_tol=0, abs_tol=1e-9) or (
            math.isnan(score) and math.isnan(official[name])
        ), (name, score, official[name])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames())
def test_all_scores_equal_the_official_ones(tmp_path_factory, made) -> None:
    official = official_scores_of_arrays(tmp_path_factory.mktemp("frames"), made)
    confusion, counts = confusion_of(made), counts_of(made)
    ids = [label.name for label in LABELS]
    scores = (
        cityscapes.class_iou(confusion),
        cityscapes.class_iiou(confusion, counts),
        cityscapes.category_iou(confusion),
        cityscapes.category_iiou(confusion, counts),
    )
    assert_equal(scores[0], ids, official.classes)
    assert_equal(scores[1], ids, official.class_instances)
    assert_equal(scores[2], list(CATEGORIES), official.categories)
    assert_equal(scores[3], list(CATEGORIES), official.category_instances)
    means = [float(mean_of_present(score)) for score in scores]
    np.testing.assert_allclose(means, official.averages, rtol=0, atol=1e-9)


@settings(max_examples=60)
@given(frames())
def test_labels_and_instances_are_counted_together_as_apart(made) -> None:
    for truth, instances, prediction in made:
        confusion, counts = cityscapes.counts_with_instances(truth, instances, prediction)
        np.testing.assert_array_equal(confusion, confusion_of([(truth, instances, prediction)]))
        expected = cityscapes.instance_counts(instances, prediction)
        np.testing.assert_allclose(counts.hits, expected.hits, rtol=1e-12)
        np.testing.assert_allclose(counts.category_misses, expected.category_misses, rtol=1e-12)
        np.testing.assert_array_equal(counts.instances, expected.instances)


def test_the_table_of_labels_is_the_official_one() -> None:
    official = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    theirs = [(o.id, o.name, o.category, not o.ignoreInEval, o.hasInstances) for o in official if o.id >= 0]
    assert [(label.id, label.name, label.category, label.judged, label.has_instances) for label in LABELS] == theirs
    assert tuple(o.id for o in sorted(official, key=lambda o: o.trainId) if 0 <= o.trainId < 255) == LABEL_IDS


def test_the_average_sizes_are_the_official_ones() -> None:
    script = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    assert {name: script.args.avgClassSize[name] for name in AVERAGE_INSTANCE_SIZE} == AVERAGE_INSTANCE_SIZE
    assert list(AVERAGE_INSTANCE_SIZE) == [LABELS[i].name for i in INSTANCE_IDS]


def test_counts_of_train_ids_give_the_same_scores() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 34, (40, 50)).astype(np.uint8)
    train = np.full(34, 255, np.uint8)
    train[list(LABEL_IDS)] = np.arange(19)
    prediction = random.integers(0, 19, truth.shape).astype(np.uint8)
    wide = confusion_matrix(truth, label_ids_of(prediction), cityscapes.IDS, ignore=-1)
    narrow = confusion_matrix(train[truth], prediction, 19)
    np.testing.assert_array_equal(cityscapes.class_iou(wide)[list(LABEL_IDS)], iou_per_class(narrow))
    np.testing.assert_array_equal(
        cityscapes.category_iou(wide), cityscapes.category_iou(cityscapes.from_train_ids(narrow))
    )


def test_small_instances_weigh_as_much_as_large_ones() -> None:
    """By hand: a car of 4 pixels found and one of 1 pixel missed, each worth 12794.02 pixels: iIoU 1/2, IoU 4/5."""
    truth = np.array([[26, 26, 26, 26, 26, 7]], np.uint8)
    instances = np.array([[26000, 26000, 26000, 26000, 26001, 7]], np.uint16)
    prediction = np.array([[26, 26, 26, 26, 7, 7]], np.uint8)
    confusion = confusion_matrix(truth, prediction, 34, ignore=-1)
    assert cityscapes.class_iou(confusion)[26] == pytest.approx(4 / 5)
    assert cityscapes.class_iiou(confusion, cityscapes.instance_counts(instances, prediction))[26] == pytest.approx(0.5)


def test_a_crowd_is_neither_hit_nor_missed() -> None:
    truth = np.full((2, 2), 24, np.uint8)
    counts = cityscapes.instance_counts(truth.astype(np.uint16), truth)
    assert counts.hits.sum() == counts.misses.sum() == counts.instances.sum() == 0


def test_counts_do_not_depend_on_how_images_are_cut() -> None:
    random = np.random.default_rng(1)
    instances = (random.choice(INSTANCE_IDS, (8, 8)) * 1000 + np.arange(8)[:, None]).astype(np.uint16)
    prediction = random.choice(INSTANCE_IDS, (8, 8)).astype(np.uint8)
    whole = cityscapes.instance_counts(instances, prediction)
    rows = sum(
        (cityscapes.instance_counts(instances[i], prediction[i]) for i in range(8)), cityscapes.InstanceCounts.zeros()
    )
    np.testing.assert_allclose(rows.hits, whole.hits, rtol=1e-12)
    np.testing.assert_array_equal(rows.instances, whole.instances)


@pytest.mark.parametrize(
    ("instances", "prediction", "told"),
    [
        (np.array([7001], np.uint16), np.array([7], np.uint8), r"\[7001\], but 'road' has no instances"),
        (np.array([34000], np.uint16), np.array([7], np.uint8), "34000"),
        (np.array([26001], np.uint16), np.array([26], np.int64), "uint8"),
        (np.array([26001, 26001], np.uint16), np.array([26], np.uint8), "shape"),
    ],
)
def test_what_cannot_be_counted_is_refused(instances, prediction, told) -> None:
    with pytest.raises(ValueError, match=told):
        cityscapes.instance_counts(instances, prediction)


def test_masks_of_one_byte_a_pixel_hold_no_instances() -> None:
    truth = np.tile(np.array([[7, 26, 33]], np.uint8), (1, 9))
    confusion, counts = cityscapes.counts_with_instances(truth, truth, truth)
    assert np.diagonal(confusion)[[7, 26, 33]].tolist() == [9, 9, 9]
    assert not counts.instances.any()


@pytest.mark.parametrize(
    ("truth", "prediction", "told"), [(34, 7, "truth holds ids up to 34"), (7, 34, "prediction holds ids up to 34")]
)
def test_ids_of_no_class_are_refused(truth, prediction, told) -> None:
    with pytest.raises(ValueError, match=told):
        cityscapes.counts_with_instances(
            np.array([truth], np.uint8), np.array([7], np.uint16), np.array([prediction], np.uint8)
        )


def test_a_truth_of_another_shape_is_refused() -> None:
    one, two = np.array([7], np.uint8), np.array([7, 7], np.uint8)
    with pytest.raises(ValueError, match=r"the truth \(2,\)"):
        cityscapes.counts_with_instances(two, one.astype(np.uint16), one)


def test_counts_of_train_ids_are_not_taken_for_label_ids() -> None:
    with pytest.raises(ValueError, match="from_train_ids"):
        cityscapes.class_iou(np.zeros((19, 19), np.int64))
