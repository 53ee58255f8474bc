"""From what a person types as DATA to images with boxes: "streets", or a folder in KITTI's layout."""

from pathlib import Path

from featherseg.data.boxes import JudgedDataset
from featherseg.data.kitti import Kitti, kitti_splits
from featherseg.data.kitti_labels import target_of
from featherseg.data.sources import STREETS, STREETS_COUNTS
from featherseg.errors import FeathersegError, nearest
from featherseg.metrics.kitti import CAR


def detection_splits(data: str | Path) -> list[str]:
    """The splits of a data set of boxes, train first.

    Raises:
        FeathersegError: it is none.
    """
    if str(data) == STREETS:
        return list(STREETS_COUNTS)
    found = kitti_splits(data)
    if found:
        return found
    if not Path(data).exists():
        hint = nearest(str(data), [STREETS])
        raise FeathersegError(f"{data}: no such folder. Give a KITTI folder, or {STREETS!r}{hint}.")
    raise FeathersegError(
        f"{data}: holds no data set of boxes that is recognised. KITTI's object data is: it has training/image_2/ and "
        f"training/label_2/. Without data of your own, {STREETS!r} gives generated scenes with boxes."
    )


def open_detection(
    data: str | Path,
    split: str,
    *,
    target: str = CAR.name,
    size: tuple[int, int] | None = None,
    count: int | None = None,
    seed: int = 0,
    lenient: bool = False,
) -> JudgedDataset:
    """Open one split of a data set of boxes.

    Args:
        data: "streets" or a KITTI folder.
        target: what is learnt, "Car" (vans are ignored) or "vehicle" (cars, vans and trucks as one class).
        size: (height, width) of the procedural scenes, 240 x 320 by default; files keep the size they have.
        count: number of procedural scenes, by default 400, 60 and 100 for train, val and test; for files, None.
        seed: of the procedural scenes.
        lenient: open a split of files that has faults; the checker lists them.

    Raises:
        FeathersegError: ``data`` is not recognised, it has no such split or target, or the split cannot be used.
    """
    if not isinstance(data, str | Path) or not isinstance(split, str):
        raise FeathersegError(f"a data set is opened by a path or a name and a split, not by {data!r} and {split!r}.")
    target_of(target)
    if str(data) == STREETS:
        if split not in STREETS_COUNTS:
            known = ", ".join(STREETS_COUNTS)
            raise FeathersegError(f"{data}: no split {split!r}{nearest(split, STREETS_COUNTS)}. There are: {known}.")
        from featherseg.data.streets import Streets  # compiled code, needed by this source alone
        from featherseg.data.streets.boxes import StreetBoxes

        scenes = Streets(split, STREETS_COUNTS[split] if count is None else count, size=size or (240, 320), seed=seed)
        return StreetBoxes(scenes, target)
    detection_splits(data)
    if size is not None or count is not None:
        raise FeathersegError(f"{data}: size and count are for {STREETS!r}; a folder's images are read as they are.")
    return Kitti(data, split, target=target, lenient=lenient)
