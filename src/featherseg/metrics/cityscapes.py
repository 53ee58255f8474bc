"""The official pixel-level judgement of Cityscapes: IoU and iIoU of classes and categories.

Source: the metrics section of Cordts et al. 2016, in the reading of the official evaluation (cityscapesscripts 2.3.0),
which decides what the paper leaves open. Choices worth knowing:

- Everything is in label ids 0..33. A prediction of train ids is converted first, or its 19x19 counts are, with
  :func:`from_train_ids`: both give the same scores, since ignored truth counts nowhere.
- iIoU weighs the true and missed pixels of an instance by its class's average size over its own size; false positives
  are not weighted, for no instance is theirs.
- An instance is an id of more than 1000 in the ``instanceIds`` mask, class x 1000 + number. A crowd has the plain
  class id: its pixels neither hit nor miss, and being truth of the class they are no false positives either.
- The category score of an instance counts any id of its category as a hit, caravans and trailers too.
- Pixels are counted in int64, image by image; the only sums of fractions are those of the weights.
"""

from dataclasses import dataclass

import numpy as np

from featherseg.metrics.cityscapes_labels import (
    AVERAGE_INSTANCE_SIZE,
    CATEGORIES,
    INSTANCE_CATEGORIES,
    LABEL_IDS,
    LABELS,
)
from featherseg.metrics.runs import runs

IDS = len(LABELS)
FIRST_INSTANCE = 1000
"""``instanceIds`` above this are instances, class x 1000 + number; those below are plain label ids."""

_JUDGED = np.array([label.judged for label in LABELS])
_INSTANCES = np.array([label.judged and label.has_instances for label in LABELS])
_WEIGHT = np.array([AVERAGE_INSTANCE_SIZE[LABELS[i].name] if _INSTANCES[i] else 0.0 for i in range(IDS)])
# Category of each id, numbered as CATEGORIES; void is the number after the last.
_CATEGORY = np.array([CATEGORIES.index(label.category) if label.category in CATEGORIES else 7 for label in LABELS])
_CATEGORY_OF_BYTE = np.full(256, len(CATEGORIES), np.uint8)
_CATEGORY_OF_BYTE[:IDS] = _CATEGORY
_ROWS = IDS * 1000  # one for an instance id
_CLASS_OF_INSTANCE = (np.arange(_ROWS) // 1000).astype(np.uint8)


@dataclass(frozen=True)
class InstanceCounts:
    """Weighted pixels of the instances of judged classes.

    Attributes:
        hits, misses: float64 ``[34]`` by label id: an instance's pixels that have its class, and those that have not.
        category_hits, category_misses: float64 ``[7]`` by category, likewise.
        instances: int64 ``[34]``, how many instances were seen.
    """

    hits: np.ndarray
    misses: np.ndarray
    category_hits: np.ndarray
    category_misses: np.ndarray
    instances: np.ndarray

    @classmethod
    def zeros(cls) -> "InstanceCounts":
        """Nothing counted yet."""
        categories = len(CATEGORIES)
        return cls(np.zeros(IDS), np.zeros(IDS), np.zeros(categories), np.zeros(categories), np.zeros(IDS, np.int64))

    def __add__(self, other: "InstanceCounts") -> "InstanceCounts":
        return InstanceCounts(
            self.hits + other.hits,
            self.misses + other.misses,
            self.category_hits + other.category_hits,
            self.category_misses + other.category_misses,
            self.instances + other.instances,
        )


def instance_counts(instances: np.ndarray, prediction: np.ndarray) -> InstanceCounts:
    """Count how much of each instance of one image was found.

    Args:
        instances: integers of any shape, as the ``instanceIds`` masks store them; uint16 is the fast case.
        prediction: label ids uint8 of the same shape.

    Raises:
        ValueError: the shapes differ, the prediction is not uint8, or an instance is of a class that has none; the
            message names the ids.
    """
    (ids, predicted), lengths = _stretches(instances, prediction)
    return _count_instances(ids, predicted, lengths)


def counts_with_instances(
    truth: np.ndarray, instances: np.ndarray, prediction: np.ndarray
) -> tuple[np.ndarray, InstanceCounts]:
    """All counts of one image: its pixels by ``labelIds``, its instances by ``instanceIds``, in one pass over both.

    The two may contradict each other; each decides what is its own, as in the official evaluation.

    Args:
        truth: label ids uint8 of any shape.
        instances, prediction: as of :func:`instance_counts`.

    Returns:
        counts of label ids int64 ``[34, 34]``, and those of the instances.

    Raises:
        ValueError: as of :func:`instance_counts`; or a label id is none of the 34, in truth or prediction.
    """
    (ids, predicted, true), lengths = _stretches(instances, prediction, truth)
    counts = _count_instances(ids, predicted, lengths)
    for what, found in (("truth", true), ("prediction", predicted)):
        largest = int(found.max(initial=0))
        if largest >= IDS:
            raise ValueError(f"{what} holds ids up to {largest}, which are of no class (0..{IDS - 1})")
    pairs = np.bincount(true.astype(np.intp) * IDS + predicted, lengths, minlength=IDS * IDS)
    return pairs.astype(np.int64).reshape(IDS, IDS), counts


def _stretches(
    instances: np.ndarray, prediction: np.ndarray, *others: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Instance id, predicted id (and those of ``others``) of each run of pixels, and their lengths.

    Where runs would save nothing the pixels are given one by one, and no lengths.
    """
    for what, found in (("prediction", prediction), *(("truth", other) for other in others)):
        if instances.shape != found.shape:
            raise ValueError(f"instances have the shape {instances.shape} but the {what} {found.shape}")
        if found.dtype != np.uint8:
            raise ValueError(f"the {what} must hold label ids as uint8, not {found.dtype}")
    if instances.dtype.itemsize == 1:
        instances = instances.astype(np.int16)  # 1000 does not fit
    maps = [found.ravel() for found in (instances, prediction, *others)]
    stretches = runs(*maps)
    if stretches is None:
        return maps, None
    starts, lengths = stretches
    return [found[starts] for found in maps], lengths


def _count_instances(ids: np.ndarray, predicted: np.ndarray, lengths: np.ndarray | None) -> InstanceCounts:
    kept = np.flatnonzero(ids > FIRST_INSTANCE)
    ids, predicted = ids[kept], predicted[kept]
    lengths = None if lengths is None else lengths[kept]
    if ids.size and int(ids.max()) >= _ROWS:
        raise ValueError(f"instance ids up to {int(ids.max())}, of no class (largest {_ROWS - 1})")

    def pixels(where: np.ndarray) -> np.ndarray:
        """Of every instance, those in the runs ``where`` (a mask)."""
        return np.bincount(ids[where], None if lengths is None else lengths[where], minlength=_ROWS)

    sizes = pixels(np.ones(ids.size, bool))
    present = np.flatnonzero(sizes)
    strange = [int(i) for i in present if LABELS[i // 1000].judged and not LABELS[i // 1000].has_instances]
    if strange:
        name = LABELS[strange[0] // 1000].name
        raise ValueError(f"instance ids {strange[:10]}, but {name!r} has no instances")
    classes = _CLASS_OF_INSTANCE[ids]
    hits = pixels(predicted == classes)
    category_hits = pixels(_CATEGORY_OF_BYTE[predicted] == _CATEGORY_OF_BYTE[classes])
    return _weighted(present // 1000, sizes[present], hits[present], category_hits[present])


def _weighted(classes: np.ndarray, sizes: np.ndarray, hits: np.ndarray, category_hits: np.ndarray) -> InstanceCounts:
    """Sum what was counted of each instance by class and category. All are ``[N]``, one entry an instance."""
    weights = _WEIGHT[classes] / sizes  # 0 for classes that are not judged
    categories = _CATEGORY[classes]

    def by_class(pixels: np.ndarray) -> np.ndarray:
        return np.bincount(classes, pixels * weights, minlength=IDS)

    def by_category(pixels: np.ndarray) -> np.ndarray:
        return np.bincount(categories, pixels * weights, minlength=len(CATEGORIES) + 1)[: len(CATEGORIES)]

    return InstanceCounts(
        by_class(hits),
        by_class(sizes - hits),
        by_category(category_hits),
        by_category(sizes - category_hits),
        np.bincount(classes[_INSTANCES[classes]], minlength=IDS),
    )


def from_train_ids(confusion: np.ndarray) -> np.ndarray:
    """Counts of train ids ``[19, 19]`` as counts of label ids, int64 ``[34, 34]``."""
    if confusion.shape != (len(LABEL_IDS), len(LABEL_IDS)):
        raise ValueError(f"counts of the 19 train ids are [19, 19], not {list(confusion.shape)}")
    wide = np.zeros((IDS, IDS), np.int64)
    wide[np.ix_(LABEL_IDS, LABEL_IDS)] = confusion
    return wide


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of each label id, float64 ``[34]`` of counts ``[34, 34]``; NaN for ids not judged, or absent everywhere."""
    _check(confusion)
    hits = np.diagonal(confusion)
    misses = confusion.sum(axis=1) - hits
    return np.where(_JUDGED, _ratio(hits, hits + misses + _false_positives(confusion)), np.nan)


def class_iiou(confusion: np.ndarray, counts: InstanceCounts) -> np.ndarray:
    """iIoU of each label id, float64 ``[34]``; NaN but for the eight judged classes that have instances."""
    _check(confusion)
    whole = counts.hits + counts.misses + _false_positives(confusion)
    return np.where(_INSTANCES, _ratio(counts.hits, whole), np.nan)


def category_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of each category, float64 ``[7]`` in the order of ``CATEGORIES``; NaN for one that is absent everywhere."""
    _check(confusion)
    scores = []
    for number in range(len(CATEGORIES)):
        inside = _JUDGED & np.equal(_CATEGORY, number)
        hits = confusion[np.ix_(inside, inside)].sum()
        misses = confusion[inside].sum() - hits
        scores.append(_ratio(hits, hits + misses + _strangers(confusion, number, inside)))
    return np.array(scores, np.float64)


def category_iiou(confusion: np.ndarray, counts: InstanceCounts) -> np.ndarray:
    """iIoU of each category, float64 ``[7]``; NaN but for human and vehicle."""
    _check(confusion)
    scores = np.full(len(CATEGORIES), np.nan)
    for name in INSTANCE_CATEGORIES:
        number = CATEGORIES.index(name)
        whole = counts.category_hits[number] + counts.category_misses[number]
        # Unlike the category's IoU: columns of ids that are not judged (caravan, trailer) are the category's as well.
        whole = whole + _strangers(confusion, number, np.equal(_CATEGORY, number))
        scores[number] = _ratio(counts.category_hits[number], whole)
    return scores


def _false_positives(confusion: np.ndarray) -> np.ndarray:
    """Pixels given each id whose truth is judged and another: ``[34]``."""
    return confusion[_JUDGED].sum(axis=0) - np.where(_JUDGED, np.diagonal(confusion), 0)


def _strangers(confusion: np.ndarray, category: int, columns: np.ndarray) -> np.integer:
    """Pixels given an id of ``columns`` whose truth is judged and of another category."""
    return confusion[np.ix_(_JUDGED & np.not_equal(_CATEGORY, category), columns)].sum()


def _check(confusion: np.ndarray) -> None:
    if confusion.shape != (IDS, IDS):
        raise ValueError(f"counts of label ids are [34, 34], not {list(confusion.shape)}; see from_train_ids")


def _ratio(part: np.ndarray | np.integer, whole: np.ndarray | np.integer) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
