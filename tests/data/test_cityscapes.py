"""Cityscapes in its distributed layout, on tiny files made here."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from featherseg.data.cityscapes import LABEL_IDS
from featherseg.data.labels import CITYSCAPES19
from featherseg.data.sources import open_dataset
from featherseg.errors import FeathersegError

# Train ids by label id as the data set's own scripts publish them.
PUBLISHED = {"road": 7, "traffic sign": 20, "sky": 23, "rider": 25, "train": 31, "bicycle": 33}


def write_frame(root: Path, ids: np.ndarray, split: str = "train", kind: str = "labelIds") -> Path:
    image = root / "leftImg8bit" / split / "ulm" / "ulm_000000_000019_leftImg8bit.png"
    label = root / "gtFine" / split / "ulm" / f"ulm_000000_000019_gtFine_{kind}.png"
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), np.zeros((*ids.shape, 3), np.uint8))
    cv2.imwrite(str(label), ids)
    return label


def test_published_ids_are_mapped() -> None:
    assert {name: LABEL_IDS[CITYSCAPES19.classes.index(name)] for name in PUBLISHED} == PUBLISHED


def test_label_ids_become_train_ids(tmp_path: Path) -> None:
    write_frame(tmp_path, np.array([[7, 33, 0], [4, 23, 255]], np.uint8))
    sample = open_dataset(tmp_path, "train").read(0)
    np.testing.assert_array_equal(sample.label, [[0, 18, 255], [255, 10, 255]])


def test_train_ids_are_preferred(tmp_path: Path) -> None:
    write_frame(tmp_path, np.full((2, 3), 7, np.uint8))
    write_frame(tmp_path, np.full((2, 3), 5, np.uint8), kind="labelTrainIds")
    assert (open_dataset(tmp_path, "train").read(0).label == 5).all()


def test_foreign_id_is_refused(tmp_path: Path) -> None:
    write_frame(tmp_path, np.full((2, 3), 40, np.uint8))
    with pytest.raises(FeathersegError, match="40"):
        open_dataset(tmp_path, "train").read(0)


def test_image_without_label_is_refused(tmp_path: Path) -> None:
    write_frame(tmp_path, np.zeros((2, 3), np.uint8)).unlink()
    with pytest.raises(FeathersegError, match="no mask for ulm_000000_000019_leftImg8bit"):
        open_dataset(tmp_path, "train")
