"""Judging label maps in files, as the Cityscapes benchmark server does with a submission.

* The ``labelIds`` masks decide the class of every pixel and the ``instanceIds`` masks what the instances are, also
  where the two contradict each other: cityscapesscripts do so too. The checker reports where they disagree.
* Decoding takes nearly all the time and happens in threads, a few images ahead; counts are added up in the order of the
  split, so that the number of threads changes no bit. Memory is constant; an interval takes 9 kB an image.
* A folder with label maps of other images is refused: they are of another split, or of another data set.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from featherseg.data.cityscapes import Cityscapes, frame_of
from featherseg.data.headers import SpoiltFile
from featherseg.data.images import read_mask
from featherseg.data.pairs import some_names
from featherseg.errors import FeathersegError
from featherseg.files import file_sha256
from featherseg.metrics import cityscapes as metrics
from featherseg.metrics.bootstrap import bootstrap_miou
from featherseg.metrics.cityscapes_labels import LABEL_IDS
from featherseg.metrics.confusion import (
    class_accuracy,
    confusion_matrix,
    frequency_weighted_iou,
    mean_of_present,
    pixel_accuracy,
)
from featherseg.training.cityscapes_evaluation import CityscapesScores, named, percent, without_instances
from featherseg.training.evaluation import View, protocol_string

MOST_WORKERS = 8
PREDICTIONS = "predictions"
"""What protocol strings say of the training where label maps are judged: files do not tell how they were made."""

_Counts = tuple[np.ndarray, metrics.InstanceCounts | None]


def judge_predictions(
    dataset: Cityscapes,
    folder: str | Path,
    *,
    instances: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    observe: Callable[[int, np.ndarray], None] | None = None,
) -> CityscapesScores:
    """Judge the label maps of a whole split.

    Args:
        dataset: the split.
        folder: holds, at any depth, one PNG of label ids for every image, its name beginning with CITY_SEQUENCE_FRAME.
        instances: judge iIoU too; there is none where an image has no ``instanceIds`` file.
        workers: threads; as many as there are processors, at most eight, if None.
        progress: called with (done, all).
        observe: called with every sample's index and its counts of label ids int64 ``[34, 34]``.

    Raises:
        FeathersegError: an image has no prediction or several, a PNG is of no image of the split, or a file cannot be
            used.
    """
    predictions = prediction_files(dataset, Path(folder))
    confusion = np.zeros((metrics.IDS, metrics.IDS), np.int64)
    found: metrics.InstanceCounts | None = metrics.InstanceCounts.zeros() if instances else None

    def judge(index: int) -> _Counts:
        return _judge_one(dataset, index, predictions[index], instances)

    for done, (counts, of_instances) in enumerate(_in_order(judge, len(predictions), workers or _processors()), 1):
        confusion += counts
        found = None if found is None or of_instances is None else found + of_instances
        if observe:
            observe(done - 1, counts)
        if progress:
            progress(done, len(predictions))
    return CityscapesScores.of(confusion, found)


def judge_submission(
    dataset: Cityscapes,
    folder: str | Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The figures of label maps in files, JSON-ready and under the names that the judgement of a network gives them.

    What only a network can be asked for, as calibration, is absent. An interval is given where only the 19 judged ids
    are predicted, as networks of these classes do.

    Args:
        dataset, folder, workers, progress: as of :func:`judge_predictions`.

    Raises:
        FeathersegError: as of :func:`judge_predictions`.
    """
    counts = np.zeros((len(dataset), metrics.IDS, metrics.IDS), np.int64)
    scores = judge_predictions(dataset, folder, workers=workers, progress=progress, observe=counts.__setitem__)
    ids, names = list(LABEL_IDS), dataset.labels.classes
    judged = np.zeros_like(counts)
    judged[:, ids] = counts[:, ids]
    whole, narrow = judged.sum(0), judged[:, ids][:, :, ids]
    low = high = np.nan
    if narrow.sum() == whole.sum():
        low, high = bootstrap_miou(narrow)
    bare = [path for path in map(dataset.instance_path, range(len(dataset))) if not path.exists()]
    return {
        "protocol": protocol_string(dataset, PREDICTIONS, View()),
        "miou": percent(mean_of_present(scores.class_iou)),
        "miou_interval_95": [percent(low), percent(high)],
        "iou": named(names, scores.class_iou[ids]),
        "pixel_accuracy": percent(pixel_accuracy(whole)),
        "class_accuracy": named(names, class_accuracy(whole)[ids]),
        "frequency_weighted_iou": percent(frequency_weighted_iou(whole)),
        **scores.figures(),
        "iiou_missing": without_instances(len(bare), len(dataset), bare[0].name) if bare else None,
        "images": len(dataset),
        "pixels": int(whole.sum()),
    }


def submission_sha256(dataset: Cityscapes, folder: str | Path) -> str:
    """SHA-256 over every image's name and the content of its prediction, in the split's order."""
    total = hashlib.sha256()
    for index, path in enumerate(prediction_files(dataset, Path(folder))):
        total.update(f"{dataset.key(index)} {file_sha256(path)}\n".encode())
    return total.hexdigest()


def _processors() -> int:
    return min(MOST_WORKERS, os.cpu_count() or 1)


def _in_order(judge: Callable[[int], _Counts], count: int, workers: int) -> Iterator[_Counts]:
    """The result of every index, in order, with only a few of them under way."""
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[_Counts]] = deque()
        for index in range(count):
            under_way.append(pool.submit(judge, index))
            if len(under_way) > 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _judge_one(dataset: Cityscapes, index: int, path: Path, instances: bool) -> _Counts:
    prediction = read_mask(path)
    where = dataset.label_ids_path(index)
    truth = read_mask(where)
    if truth.shape != prediction.shape:
        what = (
            f"the prediction is {prediction.shape[1]} x {prediction.shape[0]} pixels, but {where.name} is "
            f"{truth.shape[1]} x {truth.shape[0]}"
        )
        raise SpoiltFile("size mismatch", path, what, "Predict at the size of the image.")
    numbers = dataset.read_instances(index, truth.shape) if instances else None
    try:
        if numbers is None:
            return confusion_matrix(truth, prediction, metrics.IDS, ignore=-1), None
        return metrics.counts_with_instances(truth, numbers, prediction)
    except ValueError as error:
        raise FeathersegError(f"{path}, judged by {where}: {error}. Write label ids (0..33).") from None


def prediction_files(dataset: Cityscapes, folder: Path) -> list[Path]:
    """The prediction of every image of the split, in its order.

    Raises:
        FeathersegError: no such folder, an image without a prediction or with several, or PNGs of no image of the
            split.
    """
    if not folder.is_dir():
        raise FeathersegError(f"{folder}: no such folder. Give the folder that holds the label maps.")
    keys = [dataset.key(index) for index in range(len(dataset))]
    wanted, found, foreign = set(keys), dict[str, Path](), list[Path]()
    for path in sorted(folder.rglob("*.png")):
        frame = frame_of(path)
        if frame is None or frame not in wanted:
            foreign.append(path)
        elif frame in found:
            raise FeathersegError(f"{path}: {found[frame].name} is a prediction of {frame} too. Remove one of them.")
        else:
            found[frame] = path
    lacking = [key for key in keys if key not in found]
    if lacking:
        others = f" and {len(lacking) - 1} others" if lacking[1:] else ""
        there = f" It holds {some_names(foreign, 2)}, of no image of this split." if foreign else ""
        raise FeathersegError(
            f"{folder}: no prediction of {lacking[0]}{others}, images of split {dataset.split!r}.{there} Predict the "
            "whole split."
        )
    if foreign:
        raise FeathersegError(
            f"{folder}: holds {some_names(foreign, 2)}, of no image of split {dataset.split!r}. Move them out, or "
            "judge the split they are of."
        )
    return [found[key] for key in keys]
