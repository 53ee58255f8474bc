"""KITTI's 2D evaluation: a case worked out by hand for every rule, and random frames against a slow oracle.

In the cases a car is 100 wide and 100 high unless its height is the matter, and stands alone in its part of the image.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_kitti import slow_precision

from featherseg.metrics.kitti import (
    CAR,
    CYCLIST,
    PEDESTRIAN,
    VEHICLE,
    JudgedClass,
    KittiDetections,
    KittiScore,
    KittiTruth,
    kitti_scores,
    recall_thresholds,
)

Corners = tuple[float, float, float, float]
LEVELS = ("easy", "moderate", "hard")
# An object and a detection: name, corners, then (truncation, occlusion) or score.
Object = tuple[str, Corners, float, int]
Detection = tuple[str, Corners, float]


def at(place: float, width: float = 100, height: float = 100) -> Corners:
    """A box whose left upper corner lies at (1000 place, 0): boxes of different places do not touch."""
    return 1000 * place, 0.0, 1000 * place + width, height


def car(corners: Corners, truncation: float = 0.0, occlusion: int = 0, name: str = "Car") -> Object:
    return name, corners, truncation, occlusion


def guess(corners: Corners, score: float = 0.5, name: str = "Car") -> Detection:
    return name, corners, score


def truth_of(*objects: Object) -> KittiTruth:
    return KittiTruth(
        tuple(name for name, *_ in objects),
        np.array([corners for _, corners, *_ in objects], np.float64).reshape(-1, 4),
        np.array([truncation for *_, truncation, _ in objects], np.float64),
        np.array([occlusion for *_, occlusion in objects], np.int64),
    )


def detections_of(*found: Detection) -> KittiDetections:
    return KittiDetections(
        tuple(name for name, *_ in found),
        np.array([corners for _, corners, _ in found], np.float64).reshape(-1, 4),
        np.array([score for *_, score in found], np.float64),
    )


def judged(objects: list[Object], found: list[Detection], judge: JudgedClass = CAR) -> dict[str, KittiScore]:
    """The scores of one frame."""
    return kitti_scores([truth_of(*objects)], [detections_of(*found)], judge)


def first_precision(objects: list[Object], found: list[Detection], judge: JudgedClass = CAR) -> float:
    """Precision at the first threshold, at the difficulty easy."""
    return float(judged(objects, found, judge)["easy"].precision[0])


SEEN = car(at(0))
FOUND = guess(at(0), 0.9)


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        (car(at(1, height=40)), (2, 2, 2)),
        (car(at(1, height=39.99)), (1, 2, 2)),
        (car(at(1, height=25)), (1, 2, 2)),
        (car(at(1, height=24.99)), (1, 1, 1)),
        (car(at(1), occlusion=1), (1, 2, 2)),
        (car(at(1), occlusion=2), (1, 1, 2)),
        (car(at(1), occlusion=3), (1, 1, 1)),
        (car(at(1), truncation=0.15), (2, 2, 2)),
        (car(at(1), truncation=0.16), (1, 2, 2)),
        (car(at(1), truncation=0.30), (1, 2, 2)),
        (car(at(1), truncation=0.31), (1, 1, 2)),
        (car(at(1), truncation=0.50), (1, 1, 2)),
        (car(at(1), truncation=0.51), (1, 1, 1)),
    ],
)
def test_height_occlusion_and_truncation_decide_what_is_to_be_found(changed: Object, counts: tuple[int, ...]) -> None:
    scores = judged([SEEN, changed], [FOUND])
    assert tuple(scores[level].ground_truths for level in LEVELS) == counts


def test_an_ignored_ground_truth_takes_a_detection_that_is_then_not_wrong() -> None:
    assert first_precision([SEEN, car(at(1), occlusion=3)], [FOUND, guess(at(1), 0.95)]) == 1.0
    assert first_precision([SEEN], [FOUND, guess(at(1), 0.95)]) == 0.5


def test_a_detection_taken_by_an_ignored_ground_truth_is_not_right_either() -> None:
    scores = judged([SEEN, car(at(1), occlusion=3)], [FOUND, guess(at(1), 0.95)])
    assert scores["easy"].thresholds.tolist() == [0.9]


def test_an_ignored_ground_truth_is_taken_in_the_order_of_the_file() -> None:
    """Two objects in one place: the first one takes the only detection."""
    hidden = car(at(0), occlusion=3)
    assert judged([SEEN, hidden], [FOUND])["easy"].thresholds.tolist() == [0.9]
    assert judged([hidden, SEEN], [FOUND])["easy"].thresholds.tolist() == []


@pytest.mark.parametrize(("judge", "neighbour"), [(CAR, "Van"), (PEDESTRIAN, "Person_sitting")])
def test_a_neighbouring_class_takes_detections_and_is_never_missed(judge: JudgedClass, neighbour: str) -> None:
    objects = [car(at(0), name=judge.name), car(at(1), name=neighbour)]
    found = [guess(at(0), 0.9, judge.name), guess(at(1), 0.95, judge.name)]
    assert judged(objects, found, judge)["easy"].ground_truths == 1
    assert first_precision(objects, found, judge) == 1.0


@pytest.mark.parametrize(
    ("judge", "stranger"), [(CAR, "Truck"), (CAR, "Person_sitting"), (PEDESTRIAN, "Cyclist"), (CYCLIST, "Van")]
)
def test_other_classes_do_not_exist(judge: JudgedClass, stranger: str) -> None:
    objects = [car(at(0), name=judge.name), car(at(1), name=stranger)]
    assert judged(objects, [guess(at(0), 0.9, judge.name)], judge)["easy"].ground_truths == 1
    assert first_precision(objects, [guess(at(0), 0.9, judge.name), guess(at(1), 0.95, judge.name)], judge) == 0.5


def test_detections_of_other_classes_are_neither_right_nor_wrong() -> None:
    assert first_precision([SEEN], [FOUND, guess(at(1), 0.95, "Cyclist")]) == 1.0
    assert judged([SEEN], [guess(at(0), 0.9, "Cyclist")])["easy"].thresholds.tolist() == []


@pytest.mark.parametrize(("height", "precision"), [(39.0, 1.0), (39.99, 1.0), (40.0, 0.5), (40.99, 0.5)])
def test_a_detection_lower_than_the_least_height_is_not_wrong(height: float, precision: float) -> None:
    assert first_precision([SEEN], [FOUND, guess(at(1, height=height), 0.95)]) == precision


def test_the_least_height_of_detections_is_that_of_the_difficulty() -> None:
    scores = judged([SEEN], [FOUND, guess(at(1, height=30), 0.95)])
    assert [scores[level].precision[0] for level in LEVELS] == [1.0, 0.5, 0.5]


def test_a_ground_truth_that_takes_a_low_detection_is_not_found() -> None:
    scores = judged([car(at(0, height=42))], [guess(at(0, height=39))])
    assert [scores[level].thresholds.tolist() for level in LEVELS] == [[], [0.5], [0.5]]


def test_a_low_detection_of_another_class_takes_a_ground_truth_too() -> None:
    """In the first pass the score alone decides, and the ground truth is lost to the low pedestrian."""
    found = [guess(at(0, height=42), 0.5), guess(at(0, height=39), 0.9, "Pedestrian")]
    scores = judged([car(at(0, height=42))], found)
    assert [scores[level].thresholds.tolist() for level in LEVELS] == [[], [0.5], [0.5]]


def test_a_low_detection_is_taken_in_the_second_pass_only_where_there_is_no_other() -> None:
    """The low one overlaps better, but it leaves the other one to be right: 2 right, none wrong at the score 0.2."""
    objects = [car(at(0, height=41)), car(at(1))]
    found = [guess(at(0, height=39.5), 0.3), guess(at(0, height=50), 0.5), guess(at(1), 0.2)]
    score = judged(objects, found)["easy"]
    assert score.thresholds.tolist() == [0.5, 0.2]
    assert score.precision[:3].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("judge", "width", "hit"),
    [(CAR, 70, False), (CAR, 70.01, True), (PEDESTRIAN, 50, False), (PEDESTRIAN, 50.01, True), (CYCLIST, 50, False)],
)
def test_an_overlap_has_to_be_greater_than_the_least(judge: JudgedClass, width: float, hit: bool) -> None:
    """The detection lies inside the object: the IoU is its width's share."""
    scores = judged([car(at(0), name=judge.name)], [guess(at(0, width=width), 0.5, judge.name)], judge)
    assert bool(scores["easy"].thresholds.size) is hit


def test_the_first_pass_takes_the_highest_score() -> None:
    """By overlap the threshold would be 0.5."""
    score = judged([SEEN], [guess(at(0, width=75), 0.9), guess(at(0, width=90), 0.5)])["easy"]
    assert score.thresholds.tolist() == [0.9]
    assert score.precision[0] == 1.0


def shifted(columns: float, width: float = 100) -> Corners:
    return columns, 0.0, columns + width, 100.0


def test_the_second_pass_takes_the_largest_overlap() -> None:
    """b overlaps the first object by 0.98, a by 0.82; a overlaps the second too. By score, the first would take a."""
    objects = [car(shifted(0)), car(shifted(20)), car(at(5))]
    found = [guess(shifted(10), 0.9), guess(shifted(-1), 0.5), guess(at(5), 0.1)]
    score = judged(objects, found)["easy"]
    assert score.thresholds.tolist() == [0.9, 0.1]
    assert score.precision[:3].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(("order", "precision"), [((0, 1, 2), 1.0), ((1, 0, 2), 2 / 3)])
def test_ground_truths_take_their_detections_in_the_order_of_the_file(order: tuple[int, ...], precision: float) -> None:
    """The second object could take either detection, and likes the one that is the only one for the first.

    Where it comes first, the other detection is wrong, and the first object, without any, counts in recall alone.
    """
    objects = [car(shifted(-13)), car(shifted(3)), car(at(5))]
    found = [guess(shifted(0), 0.9), guess(shifted(13), 0.5), guess(at(5), 0.1)]
    score = judged([objects[place] for place in order], found)["easy"]
    assert score.thresholds[-1] == 0.1
    assert score.precision[len(score.thresholds) - 1] == precision


@pytest.mark.parametrize(("height", "precision"), [(70, 0.5), (70.01, 1.0)])
def test_a_detection_in_a_dont_care_region_is_not_wrong(height: float, precision: float) -> None:
    """More than 0.7 of the detection's own area, however little that is of the region."""
    region = car((1000, -5000, 6000, height), name="DontCare")
    assert first_precision([SEEN, region], [FOUND, guess(at(1), 0.95)]) == precision


def test_a_detection_much_larger_than_the_region_in_it_is_wrong() -> None:
    region = car((1000, 0, 1050, 100), name="DontCare")
    assert first_precision([SEEN, region], [FOUND, guess(at(1), 0.95)]) == 0.5


def test_regions_do_not_add_up() -> None:
    halves = [car((1000, 0, 1050, 100), name="DontCare"), car((1050, 0, 1100, 100), name="DontCare")]
    assert first_precision([SEEN, *halves], [FOUND, guess(at(1), 0.95)]) == 0.5


def test_a_detection_in_two_regions_is_excused_once() -> None:
    twice = [car(at(1), name="DontCare")] * 2
    assert first_precision([SEEN, *twice], [FOUND, guess(at(1), 0.95), guess(at(2), 0.95)]) == 0.5


def test_what_is_found_in_a_dont_care_region_is_right() -> None:
    assert first_precision([SEEN, car(at(0), name="DontCare")], [FOUND]) == 1.0


def test_the_share_in_a_region_is_that_of_the_class() -> None:
    objects = [car(at(0), name="Pedestrian"), car((1000, 0, 1100, 60), name="DontCare")]
    found = [guess(at(0), 0.9, "Pedestrian"), guess(at(1), 0.95, "Pedestrian")]
    assert first_precision(objects, found, PEDESTRIAN) == 1.0


def test_a_detection_below_the_threshold_is_not_wrong_and_one_at_it_is() -> None:
    assert first_precision([SEEN], [FOUND, guess(at(1), 0.89)]) == 1.0
    assert first_precision([SEEN], [FOUND, guess(at(1), 0.9)]) == 0.5


def test_a_second_detection_of_one_object_is_wrong() -> None:
    assert first_precision([SEEN], [guess(at(0), 0.9), guess(at(0), 0.9)]) == 0.5


def test_thresholds_step_through_recall_by_a_fortieth() -> None:
    """Of 80 found of 80, one is 1/80 of recall: the first reaches more than 0, then every second is nearest."""
    scores = np.arange(80, 0, -1.0)
    assert recall_thresholds(scores[::-1], 80).tolist() == scores[[0, *range(1, 80, 2)]].tolist()


def test_the_last_score_is_always_a_threshold() -> None:
    """Recall 0.05 is wanted after two; the third of 80 reaches 0.0375 and there is no fourth."""
    assert recall_thresholds(np.array([3.0, 2.0, 1.0]), 80).tolist() == [3.0, 2.0, 1.0]


@given(st.integers(1, 400), st.data())
def test_there_are_never_more_than_41_thresholds(ground_truths: int, data: st.DataObject) -> None:
    found = data.draw(st.integers(0, ground_truths))
    assert len(recall_thresholds(np.arange(found), ground_truths)) <= 41


def test_precision_is_made_monotone_from_the_right() -> None:
    """1 right of 2 at 0.9, 2 right of 3 at 0.8: the first point is raised to 2/3."""
    objects = [SEEN, car(at(1))]
    score = judged(objects, [guess(at(2), 0.95), FOUND, guess(at(1), 0.8)])["easy"]
    assert score.precision[:3].tolist() == [2 / 3, 2 / 3, 0.0]
    assert score.ap11 == pytest.approx(2 / 3 / 11, abs=1e-15)
    assert score.ap40 == pytest.approx(2 / 3 / 40, abs=1e-15)


@pytest.mark.parametrize(("count", "ap11", "ap40"), [(41, 1.0, 1.0), (40, 10 / 11, 39 / 40), (20, 5 / 11, 19 / 40)])
def test_both_aps_of_a_faultless_detector(count: int, ap11: float, ap40: float) -> None:
    """With less than 41 objects the kit has less than 41 thresholds, and what is faultless does not reach 1."""
    frames = [truth_of(SEEN)] * count
    score = kitti_scores(frames, [detections_of(guess(at(0), 0.5 + n / 100)) for n in range(count)])["hard"]
    assert score.ap11 == pytest.approx(ap11, abs=1e-15)
    assert score.ap40 == pytest.approx(ap40, abs=1e-15)


def test_names_are_compared_without_regard_to_case() -> None:
    objects = [car(at(0), name="CAR"), car(at(1), name="dontcare"), car(at(2), name="van")]
    assert first_precision(objects, [guess(at(k), 0.9, "car") for k in range(3)]) == 1.0


def test_merged_vehicles_are_all_to_be_found() -> None:
    objects = [SEEN, car(at(1), name="Van"), car(at(2), name="Truck"), car(at(3), name="Tram")]
    score = judged(objects, [guess(at(k), 0.9, name) for k, name in enumerate(("vehicle", "Van", "Car"))], VEHICLE)
    assert score["easy"].ground_truths == 3
    assert score["easy"].precision[0] == 1.0


def test_without_ground_truth_there_is_no_score() -> None:
    scores = judged([car(at(0), occlusion=1)], [FOUND])
    assert math.isnan(scores["easy"].ap11)
    assert math.isnan(scores["easy"].ap40)
    assert scores["easy"].ground_truths == 0
    assert scores["moderate"].ap40 == 0.0  # one threshold, at the point that AP40 leaves out


def test_a_score_of_minus_ten_million_is_no_detection() -> None:
    assert judged([SEEN], [guess(at(0), -1e7)])["easy"].thresholds.tolist() == []
    assert judged([SEEN], [guess(at(0), -9.9e6)])["easy"].thresholds.tolist() == [-9.9e6]


def test_nothing_found_scores_0() -> None:
    assert judged([SEEN], [])["easy"].ap11 == 0.0


def test_frames_do_not_touch_one_another() -> None:
    truths = [truth_of(SEEN), truth_of()]
    crossed = kitti_scores(truths, [detections_of(), detections_of(FOUND)])
    assert crossed["easy"].thresholds.size == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="scores hold a number that is not finite"):
        detections_of(guess(at(0), value))
    with pytest.raises(ValueError, match="boxes hold a number that is not finite"):
        truth_of(car((0, 0, value, 1)))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores of shape \[1\]"):
        KittiDetections(("Car",), np.zeros((1, 4)), np.zeros(2))
    with pytest.raises(ValueError, match=r"boxes of shape \[2, 4\]"):
        KittiTruth(("Car", "Car"), np.zeros((1, 4)), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="2 frames of ground truth, but 1 of detections"):
        kitti_scores([truth_of()] * 2, [detections_of()])
    with pytest.raises(ValueError, match="no frames"):
        kitti_scores([], [])


NAMES = ("Car", "Car", "Car", "Van", "Pedestrian", "Pedestrian", "Person_sitting", "Cyclist", "Truck", "DontCare")


def crowded_frame(random: np.random.Generator) -> tuple[KittiTruth, KittiDetections]:
    """Objects that touch and detections that are theirs, moved a little: many ties, low ones and rivals."""
    count = int(random.integers(0, 7))
    corner = random.integers(0, 60, (count, 2))
    size = np.stack([random.integers(20, 60, count), random.choice([23, 25, 26, 38, 40, 41, 60], count)], 1)
    boxes = np.concatenate([corner, corner + size], 1).astype(np.float64)
    names = tuple(random.choice(NAMES, count).tolist())
    truth = KittiTruth(
        names, boxes, random.choice([0, 0, 0, 0.2, 0.4], count), random.choice([0, 0, 0, 1, 2, 3], count)
    )
    found = int(random.integers(0, 12)) if count else 0
    source = random.integers(0, max(count, 1), found)
    moved = boxes[source] + random.integers(-3, 4, (found, 4)) * random.choice([0, 1, 2])
    other = tuple(random.choice(NAMES[:-1], found).tolist())
    labels = tuple(names[s] if random.random() < 0.7 else other[n] for n, s in enumerate(source))
    labels = tuple("Car" if label == "DontCare" else label for label in labels)
    return truth, KittiDetections(labels, moved, random.integers(0, 12, found) / 10 - 0.3)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_random_frames_are_judged_as_the_rules_say(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    frames = [crowded_frame(random) for _ in range(count)]
    truths, detections = [truth for truth, _ in frames], [found for _, found in frames]
    for judge in (CAR, PEDESTRIAN, CYCLIST):
        scores = kitti_scores(truths, detections, judge)
        for level in LEVELS:
            expected, total = slow_precision(truths, detections, judge.name.lower(), level)
            assert scores[level].ground_truths == total
            if total:
                assert scores[level].precision.tolist() == expected
                assert scores[level].ap11 == pytest.approx(sum(expected[::4]) / 11, abs=1e-12)
                assert scores[level].ap40 == pytest.approx(sum(expected[1:]) / 40, abs=1e-12)
