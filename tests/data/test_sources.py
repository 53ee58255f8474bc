"""What may be typed as DATA, and what is said when it is not understood."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherseg.data.camvid import CamVid, CamVidOriginal
from featherseg.data.camvid_split import split_stems
from featherseg.data.folder import FolderDataset
from featherseg.data.sources import STREETS_COUNTS, available_splits, open_dataset
from featherseg.errors import FeathersegError

YAML = "name: tiny\nclasses: [road]\nsplits:\n  {split}: {{images: pictures, masks: truth}}\n"


def save(path: Path, height: int = 2, width: int = 3, channels: tuple[int, ...] = (3,)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, *channels), np.uint8)).save(path)


def make_described(root: Path, split: str = "train") -> Path:
    save(root / "pictures/a.png")
    save(root / "truth/a.png", channels=())
    (root / "featherseg.yaml").write_text(YAML.format(split=split))
    return root


def make_segnet(root: Path) -> Path:
    for split in "train", "val":
        save(root / split / f"{split}.png")
        save(root / f"{split}annot" / f"{split}.png", channels=())
    return root


def test_segnet_layout_is_recognised(tmp_path: Path):
    assert type(open_dataset(str(make_segnet(tmp_path)), "train")) is CamVid


def test_original_camvid_is_recognised(tmp_path: Path):
    for stem in split_stems("val"):
        save(tmp_path / f"701_StillsRaw_full/{stem}.png")
        save(tmp_path / f"LabeledApproved_full/{stem}_L.png")
    assert type(open_dataset(tmp_path, "val")) is CamVidOriginal


def test_plain_folder_is_recognised(tmp_path: Path):
    save(tmp_path / "images/train/a.png")
    save(tmp_path / "masks/train/a.png", channels=())
    (tmp_path / "classes.txt").write_text("road\n")
    dataset = open_dataset(tmp_path, "train")
    assert type(dataset) is FolderDataset
    assert dataset.labels.classes == ("road",)


@pytest.mark.parametrize("file", ["", "featherseg.yaml"])
def test_folder_with_a_description_and_the_description_itself(tmp_path: Path, file: str):
    assert open_dataset(make_described(tmp_path) / file, "train").name == "tiny/3x2"


def test_description_goes_before_a_recognised_layout(tmp_path: Path):
    make_described(make_segnet(tmp_path))
    assert open_dataset(tmp_path, "train").labels.name == "tiny"


def test_splits_are_listed_train_first(tmp_path: Path):
    make_segnet(tmp_path)
    save(tmp_path / "test/a.png")
    (tmp_path / "testannot").mkdir()
    assert available_splits(tmp_path) == ["train", "val", "test"]


def test_splits_of_a_description_are_its_own(tmp_path: Path):
    assert available_splits(make_described(tmp_path, "night")) == ["night"]


def test_unknown_split_names_those_that_exist(tmp_path: Path):
    with pytest.raises(FeathersegError, match=r"no split 'vall'\. There are: train, val; did you mean 'val'\.$"):
        open_dataset(make_segnet(tmp_path), "vall")


def test_unknown_layout_lists_what_was_looked_for_and_shows_a_yaml(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(FeathersegError) as caught:
        open_dataset(tmp_path, "train")
    message = str(caught.value)
    for part in ("featherseg.yaml", "trainannot/", "LabeledApproved_full", "masks/train/", "classes: [road"):
        assert part in message


def test_path_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(FeathersegError, match="nowhere: no such folder or file"):
        open_dataset(tmp_path / "nowhere", "train")


def test_misspelt_streets_is_recognised():
    with pytest.raises(FeathersegError, match=r"did you mean 'streets'\.$"):
        open_dataset("street", "train")


def test_file_that_describes_nothing_is_refused(tmp_path: Path):
    save(tmp_path / "a.png")
    with pytest.raises(FeathersegError, match="a file, but not a YAML"):
        open_dataset(tmp_path / "a.png", "train")


def test_empty_split_is_refused(tmp_path: Path):
    make_segnet(tmp_path)
    (tmp_path / "train/train.png").unlink()
    (tmp_path / "trainannot/train.png").unlink()
    with pytest.raises(FeathersegError, match="split 'train' holds no images"):
        open_dataset(tmp_path, "train")
    assert len(open_dataset(tmp_path, "train", lenient=True)) == 0


@pytest.mark.parametrize("option", [{"size": (8, 8)}, {"count": 3}])
def test_options_of_streets_are_refused_for_files(tmp_path: Path, option: dict):
    with pytest.raises(FeathersegError, match="are for 'streets'"):
        open_dataset(make_segnet(tmp_path), "train", **option)


def test_streets_takes_size_count_and_seed():
    dataset = open_dataset("streets", "val", size=(48, 64), count=3, seed=5)
    assert len(dataset) == 3
    assert dataset.read(0).image.shape == (48, 64, 3)
    other = open_dataset("streets", "val", size=(48, 64), count=3, seed=6)
    assert not np.array_equal(dataset.read(0).image, other.read(0).image)


def test_streets_has_three_splits_of_default_length():
    assert available_splits("streets") == ["train", "val", "test"]
    assert len(open_dataset("streets", "test")) == STREETS_COUNTS["test"]


@pytest.mark.parametrize(("data", "split"), [(None, "train"), ("streets", None), (3, "train"), ("streets", 0)])
def test_a_value_of_another_type_is_refused(data: object, split: object):
    with pytest.raises(FeathersegError, match="a path or a name and a split"):
        open_dataset(data, split)  # type: ignore[arg-type]
