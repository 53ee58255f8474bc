"""The official Cityscapes judgement, :mod:`featherseg.metrics.cityscapes`, of a network and of label maps in files.

* A network is judged while :func:`~featherseg.training.evaluation.evaluate` runs: only the instances are read besides.
* Where an image has no ``instanceIds`` file there is no iIoU at all: false positives would be counted on all images and
  hits on some. IoU is judged all the same, and the figures say what was missing.
* Memory is constant: 34x34 counts and a few sums, whatever the number of images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherseg.data.cityscapes import Cityscapes, frame_of
from featherseg.data.headers import SpoiltFile
from featherseg.data.images import read_mask
from featherseg.errors import FeathersegError
from featherseg.metrics import cityscapes as metrics
from featherseg.metrics.cityscapes_labels import (
    CATEGORIES,
    INSTANCE_CATEGORIES,
    INSTANCE_IDS,
    LABELS,
    label_ids_of,
)
from featherseg.metrics.confusion import confusion_matrix, mean_of_present


@dataclass(frozen=True)
class CityscapesScores:
    """The official scores as shares, NaN where one does not exist.

    Attributes:
        class_iou, class_iiou: float64 ``[34]`` by label id.
        category_iou, category_iiou: float64 ``[7]`` in the order of ``CATEGORIES``.
    """

    class_iou: np.ndarray
    class_iiou: np.ndarray
    category_iou: np.ndarray
    category_iiou: np.ndarray

    @classmethod
    def of(cls, confusion: np.ndarray, counts: metrics.InstanceCounts | None) -> "CityscapesScores":
        """Scores of counts of label ids ``[34, 34]``; without counts of instances there is no iIoU."""
        class_iiou, category_iiou = np.full(metrics.IDS, np.nan), np.full(len(CATEGORIES), np.nan)
        if counts is not None:
            class_iiou = metrics.class_iiou(confusion, counts)
            category_iiou = metrics.category_iiou(confusion, counts)
        return cls(metrics.class_iou(confusion), class_iiou, metrics.category_iou(confusion), category_iiou)

    def figures(self) -> dict[str, Any]:
        """What the judgement adds to mIoU: means and their parts in percent, None where one does not exist."""
        categories = [CATEGORIES.index(name) for name in INSTANCE_CATEGORIES]
        return {
            "class_iiou": _percent(mean_of_present(self.class_iiou)),
            "class_iiou_per_class": _named([LABELS[i].name for i in INSTANCE_IDS], self.class_iiou[list(INSTANCE_IDS)]),
            "category_iou": _percent(mean_of_present(self.category_iou)),
            "category_iou_per_category": _named(CATEGORIES, self.category_iou),
            "category_iiou": _percent(mean_of_present(self.category_iiou)),
            "category_iiou_per_category": _named(INSTANCE_CATEGORIES, self.category_iiou[categories]),
        }


class CityscapesJudge:
    """Counts the instances of a split, image by image.

    Args:
        dataset: the split; its ``instanceIds`` files are read as images come in.
    """

    def __init__(self, dataset: Cityscapes) -> None:
        self._dataset = dataset
        self._counts = metrics.InstanceCounts.zeros()
        self._missing, self._first_missing = 0, ""

    def observe(self, index: int, train_ids: np.ndarray) -> None:
        """Count one image, whose prediction is given in train ids uint8 ``[H, W]``.

        Raises:
            SpoiltFile: the instances cannot be used.
        """
        self.observe_label_ids(index, label_ids_of(train_ids))

    def observe_label_ids(self, index: int, prediction: np.ndarray) -> None:
        """:meth:`observe` for label ids."""
        instances = self._dataset.read_instances(index, prediction.shape)
        path = self._dataset.instance_path(index)
        if instances is None:
            self._missing += 1
            self._first_missing = self._first_missing or path.name
            return
        try:
            self._counts = self._counts + metrics.instance_counts(instances, prediction)
        except ValueError as error:
            mend = "Restore the file from the original data set."
            raise SpoiltFile("id out of range", path, str(error), mend) from None

    def missing(self) -> str | None:
        """Why there is no iIoU, or None where there is one."""
        if not self._missing:
            return None
        return (
            f"no iIoU: {self._missing:,} of {len(self._dataset):,} images have no instanceIds file, first "
            f"{self._first_missing}. gtFine_trainvaltest.zip holds them."
        )

    def scores(self, confusion: np.ndarray) -> CityscapesScores:
        """The scores, by counts of train ids int64 ``[19, 19]`` or of label ids ``[34, 34]`` over all images."""
        wide = confusion if len(confusion) == metrics.IDS else metrics.from_train_ids(confusion)
        return CityscapesScores.of(wide, None if self._missing else self._counts)


def judge_predictions(
    dataset: Cityscapes,
    folder: str | Path,
    *,
    instances: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> CityscapesScores:
    """Judge label maps in files, as the benchmark server does with a submission.

    Args:
        dataset: the split, with ``labelIds`` files.
        folder: holds, at any depth, one PNG of label ids for every image, its name beginning with CITY_SEQUENCE_FRAME.
        instances: judge iIoU too; there is none where an image has no ``instanceIds`` file.
        progress: called with (done, all).

    Raises:
        FeathersegError: an image has no prediction or several, or a file cannot be used.
    """
    predictions = _predictions(dataset, Path(folder))
    judge = CityscapesJudge(dataset)
    confusion = np.zeros((metrics.IDS, metrics.IDS), np.int64)
    for index, path in enumerate(predictions):
        truth_path = dataset.label_ids_path(index)
        truth, prediction = read_mask(truth_path), read_mask(path)
        if truth.shape != prediction.shape:
            what = (
                f"the prediction is {prediction.shape[1]} x {prediction.shape[0]} pixels, but {truth_path.name} is "
                f"{truth.shape[1]} x {truth.shape[0]}"
            )
            raise SpoiltFile("size mismatch", path, what, "Predict at the size of the image.")
        try:
            confusion += confusion_matrix(truth, prediction, metrics.IDS, ignore=-1)
        except ValueError as error:
            raise FeathersegError(f"{path}, judged by {truth_path}: {error}. Write label ids (0..33).") from None
        if instances:
            judge.observe_label_ids(index, prediction)
        if progress:
            progress(index + 1, len(dataset))
    return judge.scores(confusion) if instances else CityscapesScores.of(confusion, None)


def _predictions(dataset: Cityscapes, folder: Path) -> list[Path]:
    """The prediction of every image of the split, in its order."""
    keys = [dataset.key(index) for index in range(len(dataset))]
    wanted, found = set(keys), dict[str, Path]()
    for path in sorted(folder.rglob("*.png")):
        frame = frame_of(path)
        if frame is None or frame not in wanted:
            continue
        if frame in found:
            raise FeathersegError(f"{path}: {found[frame].name} is a prediction of {frame} too. Remove one of them.")
        found[frame] = path
    lacking = [key for key in keys if key not in found]
    if lacking:
        others = f" and {len(lacking) - 1} others" if lacking[1:] else ""
        raise FeathersegError(f"{folder}: no prediction of {lacking[0]}{others}. Predict the whole split.")
    return [found[key] for key in keys]


def _percent(share: float | np.ndarray) -> float | None:
    return None if np.isnan(share) else round(100 * float(share), 4)


def _named(names: Sequence[str], shares: np.ndarray) -> dict[str, float | None]:
    return {name: _percent(share) for name, share in zip(names, shares, strict=True)}
