"""Judging a detector on a split by KITTI's rules: AP at 11 and at 40 points, for each class and difficulty.

Design choices:
- what is to be found, and how hard that is, the data set's ``truth`` says, classes that are not learnt included;
- a class without a single box to find has no AP (None), and does not enter a mean;
- the score is the mean over the classes of AP40 at moderate, by which the benchmark ranks.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from torch import nn

from featherseg.data.boxes import JudgedDataset
from featherseg.detection.decode import Found
from featherseg.detection.inference import AnchorCache, detect
from featherseg.errors import FeathersegError
from featherseg.metrics.kitti import (
    CAR,
    CYCLIST,
    PEDESTRIAN,
    VEHICLE,
    JudgedClass,
    KittiDetections,
    KittiScore,
    kitti_scores,
)

_OF_THE_BENCHMARK = (CAR, PEDESTRIAN, CYCLIST)
_KNOWN = {judged.name.lower(): judged for judged in (*_OF_THE_BENCHMARK, VEHICLE)}
OTHER_OVERLAP = 0.5
"""IoU to be exceeded of a class that KITTI does not judge."""


@dataclass(frozen=True)
class DetectionEvaluation:
    """What came out: scores by class and difficulty, and on what."""

    protocol: str
    images: int
    found: int
    scores: dict[str, dict[str, KittiScore]]

    def figures(self) -> dict[str, Any]:
        """JSON-ready: APs in percent, None where there is nothing to find."""
        by_class = {
            name: {
                kind: {difficulty: percent(getattr(score, kind)) for difficulty, score in levels.items()}
                for kind in ("ap11", "ap40")
            }
            | {"boxes": {difficulty: score.ground_truths for difficulty, score in levels.items()}}
            for name, levels in self.scores.items()
        }
        map11 = {name: _mean(list(levels["ap11"].values())) for name, levels in by_class.items()}
        return {
            "score": _mean([levels["ap40"]["moderate"] for levels in by_class.values()]),
            "protocol": self.protocol,
            "ap": by_class,
            "map11": _mean(list(map11.values())),
            "images": self.images,
            "detections": self.found,
        }


def percent(share: float) -> float | None:
    """0..1 as percent with three decimals; None for NaN."""
    return None if isnan(share) else round(100 * share, 3)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None


def judged_class(name: str) -> JudgedClass:
    """How a class is judged: as KITTI does it, or alone at an IoU of 0.5."""
    return _KNOWN.get(name.lower(), JudgedClass(name, (name,), (), OTHER_OVERLAP))


def named(found: Found, classes: Sequence[str]) -> KittiDetections:
    """Detections as KITTI's evaluation takes them."""
    names = tuple(classes[int(label)] for label in found.labels)
    return KittiDetections(names, found.boxes.astype(np.float64), found.scores.astype(np.float64))


def target_of_files(detections: Sequence[KittiDetections], where: str) -> str:
    """The target that result files are judged for: "vehicle" where that is what they name, else "Car".

    Raises:
        FeathersegError: "vehicle" stands beside classes that it holds or that are judged by themselves, or nothing is
            of a class that is judged.
    """
    names = {name for found in detections for name in found.names}
    if names == {VEHICLE.name}:
        return VEHICLE.name
    if VEHICLE.name in names:
        others = ", ".join(sorted(names - {VEHICLE.name}))
        raise FeathersegError(
            f"{where}: names {VEHICLE.name} beside {others}, and {VEHICLE.name} is cars, vans and trucks as one class. "
            f"Name every detection {VEHICLE.name}, or each by its own class."
        )
    if names and not names & {judged.name for judged in _OF_THE_BENCHMARK}:
        known = ", ".join(judged.name for judged in (*_OF_THE_BENCHMARK, VEHICLE))
        raise FeathersegError(
            f"{where}: names {', '.join(sorted(names))} alone, and none of that is judged. Name what was found by one "
            f"of: {known}."
        )
    return CAR.name


def unjudged(detections: Sequence[KittiDetections]) -> dict[str, int]:
    """How many detections are of each class that :func:`evaluate_files` does not judge, by its name."""
    judged = {judged.name for judged in (*_OF_THE_BENCHMARK, VEHICLE)}
    names = (name for found in detections for name in found.names)
    return dict(sorted(Counter(name for name in names if name not in judged).items()))


def evaluate_files(dataset: JudgedDataset, detections: Sequence[KittiDetections]) -> DetectionEvaluation:
    """Judge ``detections``, one of each image of ``dataset``, in the classes that they name: see
    :func:`target_of_files`, by which ``dataset`` is opened.

    The first class of the data set is judged even if nothing of it was found.
    """
    truths = [dataset.truth(index) for index in range(len(dataset))]
    wanted = {*(name for found in detections for name in found.names), dataset.classes[0]}
    classes = [judged for judged in (*_OF_THE_BENCHMARK, VEHICLE) if judged.name in wanted]
    scores = {judged.name: kitti_scores(truths, detections, judged) for judged in classes}
    protocol = f"{dataset.name}/files→{dataset.split}, KITTI 2D AP"
    return DetectionEvaluation(protocol, len(dataset), sum(len(found.scores) for found in detections), scores)


def evaluate_detector(
    network: nn.Module,
    dataset: JudgedDataset,
    *,
    trained_on: str = "unknown",
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> DetectionEvaluation:
    """Judge ``network``, whose classes are the data set's, on every image of ``dataset``.

    Args:
        network: put in ``eval()`` and back.
        dataset: judged on.
        trained_on: split named in the protocol.
        precision: as :func:`detect` has it.
        progress: called with (done, all).

    Raises:
        FeathersegError: an image is spoilt, or the network gives numbers that are not finite.
    """
    was_training, anchors = network.training, AnchorCache(network)
    network.eval()
    truths, detections = [], []
    for index in range(len(dataset)):
        sample = dataset.read(index)
        truths.append(dataset.truth(index))
        detections.append(named(detect(network, sample.image, anchors, precision=precision), dataset.classes))
        if progress:
            progress(index + 1, len(dataset))
    network.train(was_training)
    scores = {name: kitti_scores(truths, detections, judged_class(name)) for name in dataset.classes}
    protocol = f"{dataset.name}/{trained_on}→{dataset.split}, KITTI 2D AP"
    return DetectionEvaluation(protocol, len(dataset), sum(len(found.scores) for found in detections), scores)
