"""From what a person types as DATA to a data set: "streets", a folder whose layout is recognised, or a YAML."""

from pathlib import Path

from featherseg.data.camvid import CamVid, segnet_splits
from featherseg.data.dataset import SegmentationDataset
from featherseg.errors import FeathersegError


def open_dataset(
    data: str | Path, split: str, *, size: tuple[int, int] | None = None, count: int | None = None, seed: int = 0
) -> SegmentationDataset:
    """Open one split of a data set."""
    if str(data) == "streets":
        from featherseg.data.streets import Streets

        return Streets(split, count or {"train": 400}.get(split, 100), size=size or (240, 320), seed=seed)
    root = Path(data)
    if segnet_splits(root):
        return CamVid(root, split)
    raise FeathersegError(f"{data}: not a data set that is recognised.")
