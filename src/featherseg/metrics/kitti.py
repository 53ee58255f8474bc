"""The official 2D detection benchmark of KITTI: average precision of one class at three difficulties.

Source: Geiger et al. 2012 and the benchmark's development kit, which decides what the paper leaves open. Its rules, in
the order in which they bite; each has a test of its own:

- A ground truth of the class is *ignored* at a difficulty that it fails (height, occlusion, truncation), and so is
  every one of a neighbouring class (Van for Car, Person_sitting for Pedestrian). It may take a detection, which is
  then neither right nor wrong; it is never missed. Ground truth of other classes does not exist.
- A detection lower than the difficulty's least height, its height cut to a whole pixel, is ignored, *whatever its
  class*: it is neither right nor wrong, and a ground truth that takes it is neither found nor missed.
- An overlap (IoU) has to be greater than the class's least one; equal is not enough. Corners are continuous: a box is
  x2 - x1 wide.
- First pass: each ground truth, in the file's order, takes the free detection with the highest score that overlaps
  it. The scores of those found give at most 41 thresholds, one for each step of 1/40 of recall.
- Second pass, for each threshold, without the detections below it: each ground truth takes the free detection with
  the largest overlap; an ignored one only where there is no other.
- Left over detections are wrong, but for those that lie in a DontCare region with more than the least overlap's share
  of their own area.
- Precision is made monotone from the right. AP11 is its mean at every fourth of the 41 points (the benchmark until
  October 2019), AP40 its mean at all but the first (since then).
- Names are compared without regard to case. Scores are fractions in 0..1.

Where the kit divides by nothing: precision is 0 where a threshold leaves neither right nor wrong detections, and AP is
NaN, not the kit's 0, where there is no ground truth to find.

All frames are worked on together: the first ground truth of every frame, then the second, and so on, since frames do
not touch one another. Each takes the first of its list of preferences that is still free.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

RECALL_POINTS = 41
DONT_CARE = "dontcare"
_NO_SCORE = -1e7  # the kit's word for "no detection": one with this score or less can never be taken


@dataclass(frozen=True)
class Difficulty:
    """What a ground truth must fulfil to be judged: least height in pixels, most occlusion and truncation."""

    name: str
    min_height: int
    max_occlusion: int
    max_truncation: float


DIFFICULTIES = (Difficulty("easy", 40, 0, 0.15), Difficulty("moderate", 25, 1, 0.30), Difficulty("hard", 25, 2, 0.50))
_LOWEST = max(difficulty.min_height for difficulty in DIFFICULTIES)  # lower detections of other classes matter too


@dataclass(frozen=True)
class JudgedClass:
    """A class, which names of ground truth belong to it, which are its neighbours, and the IoU to be exceeded."""

    name: str
    members: tuple[str, ...]
    neighbours: tuple[str, ...]
    min_overlap: float


CAR = JudgedClass("Car", ("Car",), ("Van",), 0.7)
PEDESTRIAN = JudgedClass("Pedestrian", ("Pedestrian",), ("Person_sitting",), 0.5)
CYCLIST = JudgedClass("Cyclist", ("Cyclist",), (), 0.5)
VEHICLE = JudgedClass("vehicle", ("Car", "Van", "Truck"), (), 0.7)
"""No class of the benchmark: all that drives but trams, by the rules of Car."""


@dataclass(frozen=True)
class KittiTruth:
    """The labels of one frame in the file's order, DontCare regions included.

    ``names`` [N]; ``boxes`` ``[N, 4]`` as x1, y1, x2, y2 in pixels; ``truncation`` ``[N]`` from 0 to 1; ``occlusion``
    ``[N]``: 0 (none), 1 (partly), 2 (largely), 3 (unknown).

    Raises:
        ValueError: the shapes do not fit each other, or a number is not finite.
    """

    names: tuple[str, ...]
    boxes: np.ndarray
    truncation: np.ndarray
    occlusion: np.ndarray

    def __post_init__(self) -> None:
        _check_shapes(self.names, self.boxes, truncation=self.truncation, occlusion=self.occlusion)


@dataclass(frozen=True)
class KittiDetections:
    """What was found in one frame: ``names`` [N]; ``boxes`` ``[N, 4]`` as x1, y1, x2, y2 in pixels; ``scores`` ``[N]``.

    Raises:
        ValueError: the shapes do not fit each other, or a number is not finite.
    """

    names: tuple[str, ...]
    boxes: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        _check_shapes(self.names, self.boxes, scores=self.scores)


@dataclass(frozen=True)
class KittiScore:
    """The result of one class at one difficulty.

    Attributes:
        ap11, ap40: average precision, 0 to 1; NaN where ``ground_truths`` is 0.
        precision: float64 ``[41]``, monotone; 0 beyond the recall that is reached.
        thresholds: float64 ``[T]``, T <= 41, the scores at which the first T of ``precision`` were measured.
        ground_truths: how many were to be found.
    """

    ap11: float
    ap40: float
    precision: np.ndarray
    thresholds: np.ndarray
    ground_truths: int


def kitti_scores(
    truths: Sequence[KittiTruth], detections: Sequence[KittiDetections], judged: JudgedClass = CAR
) -> dict[str, KittiScore]:
    """Judge the detections of all frames.

    Args:
        truths, detections: one of each a frame, in the same order. A detection belongs to the class by the class's own
            name or that of a member.

    Returns:
        the score by difficulty: "easy", "moderate", "hard".

    Raises:
        ValueError: their numbers differ, or there are no frames.
    """
    if len(truths) != len(detections):
        raise ValueError(f"{len(truths)} frames of ground truth, but {len(detections)} of detections")
    if not truths:
        raise ValueError("there are no frames to judge")
    pairs = zip(truths, detections, strict=True)
    gathered = _gather([_gather_frame(truth, found, judged) for truth, found in pairs])
    return {difficulty.name: _score(gathered, difficulty) for difficulty in DIFFICULTIES}


def recall_thresholds(scores: np.ndarray, ground_truths: int) -> np.ndarray:
    """The scores at which precision is measured.

    Scores are walked from high to low, and recall grows by 1 / ``ground_truths`` at each. A score is passed over while
    the next one comes nearer to the recall that is wanted; else it becomes a threshold and 1/40 more is wanted. The
    last score is never passed over.

    Args:
        scores: ``[N]``, of the ground truths found, in any order; N <= ``ground_truths``.

    Returns:
        float64 ``[T]``, descending, T <= 41.
    """
    ordered = np.sort(np.asarray(scores, np.float64))[::-1].tolist()
    last, wanted, thresholds = len(ordered) - 1, 0.0, []
    for place, score in enumerate(ordered):
        here, following = (place + 1) / ground_truths, (place + 2) / ground_truths
        if place < last and following - wanted < wanted - here:
            continue
        thresholds.append(score)
        wanted += 1 / (RECALL_POINTS - 1)
    return np.array(thresholds, np.float64)


@dataclass(frozen=True)
class _Gathered:
    """All frames of one class in flat arrays: ground truths, detections, and the pairs of them that overlap enough."""

    own_truth: np.ndarray  # of the class, not of a neighbour
    truth_heights: np.ndarray
    truncation: np.ndarray
    occlusion: np.ndarray
    own_detection: np.ndarray
    detection_heights: np.ndarray
    scores: np.ndarray
    excused: np.ndarray  # lies in a DontCare region
    pair_truth: np.ndarray
    pair_detection: np.ndarray
    pair_overlap: np.ndarray
    pair_turn: np.ndarray  # the place of the ground truth in its frame


def _check_shapes(names: tuple[str, ...], boxes: np.ndarray, **columns: np.ndarray) -> None:
    count = len(names)
    if boxes.shape != (count, 4):
        raise ValueError(f"{count} names need boxes of shape [{count}, 4], not {list(boxes.shape)}")
    for name, values in {"boxes": boxes, **columns}.items():
        if len(values) != count or (name != "boxes" and values.ndim != 1):
            raise ValueError(f"{count} names need {name} of shape [{count}], not {list(values.shape)}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} hold a number that is not finite")


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Areas shared by boxes ``[N, 4]`` and ``[M, 4]``: ``[N, M]``."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0.0)
    return sides[..., 0] * sides[..., 1]


def _overlapping(truths: np.ndarray, detections: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs whose IoU is greater than ``least``: rows, columns and IoU."""
    shared = _intersections(truths, detections)
    rows, columns = np.nonzero(shared)
    shared = shared[rows, columns]
    ious = shared / (_areas(detections)[columns] + _areas(truths)[rows] - shared)
    kept = ious > least
    return rows[kept], columns[kept], ious[kept]


def _inside(detections: np.ndarray, regions: np.ndarray, least: float) -> np.ndarray:
    """Which detections lie in a region with more than ``least`` of their own area: bool ``[N]``."""
    shared = _intersections(detections, regions).max(1, initial=0.0)
    shares = np.divide(shared, _areas(detections), out=np.zeros_like(shared), where=shared > 0)
    return shares > least


def _gather_frame(truth: KittiTruth, found: KittiDetections, judged: JudgedClass) -> _Gathered:
    members = {name.lower() for name in judged.members}
    relevant = members | {name.lower() for name in judged.neighbours}
    names = [name.lower() for name in truth.names]
    kept = [place for place, name in enumerate(names) if name in relevant]
    regions = [place for place, name in enumerate(names) if name == DONT_CARE]
    corners = np.asarray(truth.boxes, np.float64)

    detected = members | {judged.name.lower()}
    own = np.array([name.lower() in detected for name in found.names], bool)
    boxes, scores = np.asarray(found.boxes, np.float64), np.asarray(found.scores, np.float64)
    heights = np.trunc(np.abs(boxes[:, 3] - boxes[:, 1]))
    usable = np.flatnonzero((own | (heights < _LOWEST)) & (scores > _NO_SCORE))
    boxes = boxes[usable]
    rows, places, ious = _overlapping(corners[kept], boxes, judged.min_overlap)
    return _Gathered(
        own_truth=np.array([names[place] in members for place in kept], bool),
        truth_heights=corners[kept, 3] - corners[kept, 1],
        truncation=np.asarray(truth.truncation, np.float64)[kept],
        occlusion=np.asarray(truth.occlusion)[kept],
        own_detection=own[usable],
        detection_heights=heights[usable],
        scores=scores[usable],
        excused=_inside(boxes, corners[regions], judged.min_overlap) if regions else np.zeros(len(usable), bool),
        pair_truth=rows,
        pair_detection=places,
        pair_overlap=ious,
        pair_turn=rows,
    )


def _gather(frames: list[_Gathered]) -> _Gathered:
    """The frames one after another, their pairs numbered on."""
    truths = np.cumsum([0, *(len(frame.own_truth) for frame in frames)])
    detections = np.cumsum([0, *(len(frame.scores) for frame in frames)])
    columns = {
        column.name: np.concatenate([getattr(frame, column.name) for frame in frames]) for column in fields(_Gathered)
    }
    pairs = [len(frame.pair_turn) for frame in frames]
    columns["pair_truth"] += np.repeat(truths[:-1], pairs)
    columns["pair_detection"] += np.repeat(detections[:-1], pairs)
    return _Gathered(**columns)


class _Choosing:
    """Lets each ground truth take the first free detection of its list, in turns of one ground truth a frame."""

    def __init__(self, gathered: _Gathered, pairs: np.ndarray, preference: Sequence[np.ndarray]) -> None:
        """``preference``: keys ``[P]`` of all pairs, the least significant first, as in :func:`numpy.lexsort`."""
        turns = gathered.pair_turn[pairs]
        order = np.lexsort((*(key[pairs] for key in preference), gathered.pair_truth[pairs], turns))
        bounds = np.flatnonzero(np.diff(turns[order], prepend=-1, append=-1))
        pairs = pairs[order]
        self._turns = [pairs[start:stop] for start, stop in pairwise(bounds)]
        self._truth, self._detection = gathered.pair_truth, gathered.pair_detection

    def choose(self, free: np.ndarray) -> np.ndarray:
        """The pairs chosen, ``[C]``; the detections they take are struck off ``free``, bool ``[D]``."""
        chosen = [np.zeros(0, np.intp)]
        for pairs in self._turns:
            possible = pairs[free[self._detection[pairs]]]
            first = possible[np.diff(self._truth[possible], prepend=-1) != 0]
            free[self._detection[first]] = False
            chosen.append(first)
        return np.concatenate(chosen)


def _score(gathered: _Gathered, difficulty: Difficulty) -> KittiScore:
    judged_truth = (
        gathered.own_truth
        & (gathered.truth_heights >= difficulty.min_height)
        & (gathered.occlusion <= difficulty.max_occlusion)
        & (gathered.truncation <= difficulty.max_truncation)
    )
    ground_truths = int(np.count_nonzero(judged_truth))
    if ground_truths == 0:
        return KittiScore(math.nan, math.nan, np.zeros(RECALL_POINTS), np.zeros(0), 0)
    low = gathered.detection_heights < difficulty.min_height
    judged_detection = gathered.own_detection & ~low
    pairs = np.flatnonzero((judged_detection | low)[gathered.pair_detection])
    places, low_pairs = gathered.pair_detection, low[gathered.pair_detection]
    counted = judged_truth[gathered.pair_truth] & ~low_pairs

    by_score = _Choosing(gathered, pairs, (places, -gathered.scores[places]))
    found = by_score.choose(np.ones(len(low), bool))
    thresholds = recall_thresholds(gathered.scores[places[found[counted[found]]]], ground_truths)

    by_overlap = _Choosing(gathered, pairs, (places, np.where(low_pairs, 0.0, -gathered.pair_overlap), low_pairs))
    blamed = judged_detection & ~gathered.excused
    precision = np.zeros(RECALL_POINTS)
    for place, threshold in enumerate(thresholds):
        free = gathered.scores >= threshold
        right = int(np.count_nonzero(counted[by_overlap.choose(free)]))
        wrong = int(np.count_nonzero(free & blamed))
        precision[place] = right / (right + wrong) if right + wrong else 0.0
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return KittiScore(
        float(precision[::4].sum() / 11), float(precision[1:].sum() / 40), precision, thresholds, ground_truths
    )
