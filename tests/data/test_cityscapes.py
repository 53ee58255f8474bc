"""Cityscapes in its distributed layout, on tiny files made here."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherseg.data import cityscapes
from featherseg.data.cityscapes import LABEL_IDS, Cityscapes, frame_of
from featherseg.data.dataset import shortfall_of, split_name
from featherseg.data.images import read_mask
from featherseg.data.labels import CITYSCAPES19
from featherseg.data.sources import available_splits, open_dataset
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


def test_label_without_image_is_refused(tmp_path: Path) -> None:
    write_frame(tmp_path, np.zeros((2, 3), np.uint8))
    next(tmp_path.glob("leftImg8bit/train/ulm/*.png")).unlink()
    with pytest.raises(FeathersegError, match="no image for ulm_000000_000019_gtFine_labelIds"):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize(("data", "splits"), [
    (".", ["train", "val", "test"]),
    ("gtFine", ["train", "val", "test"]),
    ("gtCoarse", ["train", "val", "train_extra"]),
])  # fmt: skip
def test_fine_and_coarse_labels_have_splits_of_their_own(cityscapes_tree: Path, data: str, splits: list[str]) -> None:
    assert available_splits(cityscapes_tree / data) == splits
    assert sum(len(open_dataset(cityscapes_tree / data, split)) for split in splits) == 9


def test_coarse_labels_are_found_from_within_the_tree(cityscapes_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cityscapes_tree / "gtCoarse")
    assert len(open_dataset(".", "train_extra")) == 2
    monkeypatch.chdir(cityscapes_tree)
    assert len(open_dataset("gtCoarse", "train_extra")) == 2


def test_coarse_labels_have_a_name_of_their_own(cityscapes_tree: Path) -> None:
    assert open_dataset(cityscapes_tree, "train").name == "cityscapes19/128x64"
    assert open_dataset(cityscapes_tree / "gtCoarse", "train").name == "cityscapes19-coarse/128x64"


def test_coarse_labels_are_fine_labels_with_more_ignored(cityscapes_tree: Path) -> None:
    fine, coarse = (open_dataset(cityscapes_tree / kind, "train") for kind in ("gtFine", "gtCoarse"))
    for index in range(len(fine)):
        one, other = fine.read(index), coarse.read(index)
        assert one.key == other.key
        np.testing.assert_array_equal(one.image, other.image)
        kept = other.label != 255
        assert 0.2 < kept.mean() < (one.label != 255).mean()
        np.testing.assert_array_equal(one.label[kept], other.label[kept])


def test_a_tree_with_coarse_labels_alone_says_how_to_open_them(cityscapes_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "leftImg8bit").symlink_to(cityscapes_tree / "leftImg8bit")
    (tmp_path / "gtCoarse").symlink_to(cityscapes_tree / "gtCoarse")
    with pytest.raises(FeathersegError, match=r"check cityscapes .* opened as .*gtCoarse"):
        open_dataset(tmp_path, "train")
    assert len(open_dataset(tmp_path / "gtCoarse", "train")) == 4


def test_instances_are_read_as_stored(cityscapes_tree: Path) -> None:
    dataset = Cityscapes(cityscapes_tree, "train")
    for index in range(len(dataset)):
        instances = dataset.read_instances(index, (64, 128))
        assert instances is not None
        ids = read_mask(dataset.label_ids_path(index))
        np.testing.assert_array_equal(np.where(instances > 1000, instances // 1000, instances), ids)


def test_absent_instances_are_none(tmp_path: Path) -> None:
    write_frame(tmp_path, np.zeros((2, 3), np.uint8))
    assert Cityscapes(tmp_path, "train").read_instances(0, (2, 3)) is None


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("ulm_000000_000019_leftImg8bit.png", "ulm_000000_000019"),
        ("bad-honnef_000000_000019.png", "bad-honnef_000000_000019"),
        ("ulm_000000_000019_pred_labelIds.png", "ulm_000000_000019"),
        ("ulm_0_19.png", None),
        ("ulm_000000_0000190.png", None),
        ("photo.png", None),
    ],
)
def test_the_frame_of_a_file_is_read_off_its_name(name: str, frame: str | None) -> None:
    assert frame_of(Path(name)) == frame


@pytest.fixture
def miniature_is_official(monkeypatch: pytest.MonkeyPatch) -> None:
    """The miniature's val stands for the official one, which nobody may bring along."""
    monkeypatch.setitem(cityscapes.CITIES, "val", ("frankfurt", "munster"))
    monkeypatch.setitem(cityscapes.COUNTS, "val", 3)


def val_shortfall(root: Path) -> tuple[str, str]:
    dataset = open_dataset(root, "val")
    shortfall = shortfall_of(dataset)
    assert shortfall is not None
    assert split_name(dataset) == f"val, {shortfall.mark}"
    assert str(root) not in shortfall.told
    assert "check cityscapes" in shortfall.told
    return shortfall.mark, shortfall.told


@pytest.mark.usefixtures("miniature_is_official")
@pytest.mark.parametrize("data", ["gtFine", "gtCoarse"])
def test_a_whole_split_falls_short_of_nothing(cityscapes_tree: Path, data: str) -> None:
    dataset = open_dataset(cityscapes_tree / data, "val")
    assert shortfall_of(dataset) is None
    assert split_name(dataset) == "val"


@pytest.mark.usefixtures("miniature_is_official")
def test_a_split_without_a_city_says_so(cityscapes_copy: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        shutil.rmtree(cityscapes_copy / kind / "val" / "munster")
    mark, told = val_shortfall(cityscapes_copy)
    assert mark == "1 of 2 cities"
    assert "no images of munster; 2 images instead of 3" in told


@pytest.mark.usefixtures("miniature_is_official")
def test_a_split_without_an_image_says_so(cityscapes_copy: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        for path in cityscapes_copy.glob(f"{kind}/val/frankfurt/*_000001_*"):
            path.unlink()
    mark, told = val_shortfall(cityscapes_copy)
    assert mark == "2 of 3 images"
    assert "2 images instead of 3" in told


@pytest.mark.usefixtures("miniature_is_official")
@pytest.mark.parametrize(
    ("renamed", "mark", "words"),
    [
        (["munster"], "1 of 2 cities and 1 other", "no images of munster; images of new-munster, of no city"),
        (["frankfurt", "munster"], "0 of 2 cities and 2 others", "images of new-frankfurt, new-munster, of no city"),
    ],
)
def test_a_split_of_other_cities_is_opened_and_says_so(
    cityscapes_copy: Path, renamed: list[str], mark: str, words: str
) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        for city in renamed:
            (cityscapes_copy / kind / "val" / city).rename(cityscapes_copy / kind / "val" / f"new-{city}")
    found, told = val_shortfall(cityscapes_copy)
    assert found == mark
    assert words in told


def test_data_without_official_splits_falls_short_of_nothing() -> None:
    scenes = open_dataset("streets", "val", count=1)
    assert shortfall_of(scenes) is None
    assert split_name(scenes) == "val"
