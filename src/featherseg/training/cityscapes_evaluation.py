"""The official Cityscapes judgement, :mod:`featherseg.metrics.cityscapes`, of a network.

* It happens while :func:`~featherseg.training.evaluation.evaluate` runs: only the instances are read besides.
* Where an image has no ``instanceIds`` file there is no iIoU at all: false positives would be counted on all images and
  hits on some. IoU is judged all the same, and the figures say what was missing.
* Memory is constant: a few sums, whatever the number of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featherseg.data.cityscapes import Cityscapes
from featherseg.data.headers import SpoiltFile
from featherseg.metrics import cityscapes as metrics
from featherseg.metrics.cityscapes_labels import (
    CATEGORIES,
    INSTANCE_CATEGORIES,
    INSTANCE_IDS,
    LABELS,
    label_ids_of,
)
from featherseg.metrics.confusion import mean_of_present


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
            "class_iiou": percent(mean_of_present(self.class_iiou)),
            "class_iiou_per_class": named([LABELS[i].name for i in INSTANCE_IDS], self.class_iiou[list(INSTANCE_IDS)]),
            "category_iou": percent(mean_of_present(self.category_iou)),
            "category_iou_per_category": named(CATEGORIES, self.category_iou),
            "category_iiou": percent(mean_of_present(self.category_iiou)),
            "category_iiou_per_category": named(INSTANCE_CATEGORIES, self.category_iiou[categories]),
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
        instances = self._dataset.read_instances(index, train_ids.shape)
        path = self._dataset.instance_path(index)
        if instances is None:
            self._missing += 1
            self._first_missing = self._first_missing or path.name
            return
        try:
            self._counts = self._counts + metrics.instance_counts(instances, label_ids_of(train_ids))
        except ValueError as error:
            mend = "Restore the file from the original data set."
            raise SpoiltFile("id out of range", path, str(error), mend) from None

    def missing(self) -> str | None:
        """Why there is no iIoU, or None where there is one."""
        if not self._missing:
            return None
        return without_instances(self._missing, len(self._dataset), self._first_missing)

    def scores(self, confusion: np.ndarray) -> CityscapesScores:
        """The scores, by counts of train ids int64 ``[19, 19]`` over all images."""
        return CityscapesScores.of(metrics.from_train_ids(confusion), None if self._missing else self._counts)


def without_instances(missing: int, images: int, first: str) -> str:
    """Why there is no iIoU: ``missing`` of the images have no ``instanceIds`` file, ``first`` before the others."""
    return (
        f"no iIoU: {missing:,} of {images:,} images have no instanceIds file, first {first}. "
        "gtFine_trainvaltest.zip holds them."
    )


def percent(share: float | np.ndarray) -> float | None:
    """A share as percent with four digits; None for NaN."""
    return None if np.isnan(share) else round(100 * float(share), 4)


def named(names: Sequence[str], shares: np.ndarray) -> dict[str, float | None]:
    """Shares by name, as :func:`percent` gives them."""
    return {name: percent(share) for name, share in zip(names, shares, strict=True)}
