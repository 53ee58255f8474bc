"""Judging label maps in files, as the Cityscapes benchmark server does with a submission.

* The ``labelIds`` masks decide the class of every pixel and the ``instanceIds`` masks what the instances are, also
  where the two contradict each other: cityscapesscripts do so too. The checker reports where they disagree.
* Decoding takes nearly all the time and happens in threads, a few images ahead; counts are added up in the order of the
  split, so that the number of threads changes no bit. Memory is constant.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from featherseg.data.cityscapes import Cityscapes, frame_of
from featherseg.data.headers import SpoiltFile
from featherseg.data.images import read_mask
from featherseg.errors import FeathersegError
from featherseg.metrics import cityscapes as metrics
from featherseg.metrics.confusion import confusion_matrix
from featherseg.training.cityscapes_evaluation import CityscapesScores

MOST_WORKERS = 8

_Counts = tuple[np.ndarray, metrics.InstanceCounts | None]


def judge_predictions(
    dataset: Cityscapes,
    folder: str | Path,
    *,
    instances: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CityscapesScores:
    """Judge the label maps of a whole split.

    Args:
        dataset: the split.
        folder: holds, at any depth, one PNG of label ids for every image, its name beginning with CITY_SEQUENCE_FRAME.
        instances: judge iIoU too; there is none where an image has no ``instanceIds`` file.
        workers: threads; as many as there are processors, at most eight, if None.
        progress: called with (done, all).

    Raises:
        FeathersegError: an image has no prediction or several, or a file cannot be used.
    """
    predictions = _predictions(dataset, Path(folder))
    confusion = np.zeros((metrics.IDS, metrics.IDS), np.int64)
    found: metrics.InstanceCounts | None = metrics.InstanceCounts.zeros() if instances else None

    def judge(index: int) -> _Counts:
        return _judge_one(dataset, index, predictions[index], instances)

    for done, (counts, of_instances) in enumerate(_in_order(judge, len(predictions), workers or _processors()), 1):
        confusion += counts
        found = None if found is None or of_instances is None else found + of_instances
        if progress:
            progress(done, len(predictions))
    return CityscapesScores.of(confusion, found)


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
