"""COCO 2017: what is read from a sound folder, in the manner the paper pre-trains on it."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from coco_miniature import HEIGHT, WIDTH, annotation, box, content, make_coco
from pycocotools.coco import COCO

from featherseg.data.check import check_dataset
from featherseg.data.coco import CLASSES, Coco, coco_labels
from featherseg.data.sources import available_splits, open_dataset
from featherseg.errors import FeathersegError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11


@pytest.mark.parametrize("nested", [False, True])
def test_a_coco_folder_is_recognised(tmp_path: Path, nested: bool):
    make_coco(tmp_path, nested=nested)
    make_coco(tmp_path, content(1, first=9), "val", nested)
    assert available_splits(tmp_path) == ["train", "val"]
    train, val = (open_dataset(tmp_path, split) for split in ("train", "val"))
    assert (type(train), len(train), len(val)) == (Coco, 2, 1)
    assert (train.name, train.labels.classes) == ("coco9/mixed", ("background", *CLASSES))
    assert [train.key(0), train.key(1), val.key(0)] == ["000000000001", "000000000002", "000000000009"]


def test_annotations_are_drawn_over_a_background_that_is_a_class(tmp_path: Path):
    sample = Coco(make_coco(tmp_path), "train").read(1)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:25, :40] = 3
    assert (sample.image.shape, sample.image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert sample.label.dtype == np.uint8
    assert np.array_equal(sample.label, expected)


def test_classes_count_in_the_order_of_cocos_categories(tmp_path: Path):
    value = content(1)
    numbers = (1, 2, 3, 4, 6, 7, 8, 13, 14)
    value["annotations"] += [annotation(k, 1, number, box(k, 30, k + 1, 31)) for k, number in enumerate(numbers)]
    value["annotations"].append(annotation(50, 1, 5, box(20, 30, 30, 31)))  # airplanes are none of the nine
    label = Coco(make_coco(tmp_path, value), "train").read(0).label
    assert label[30].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, *[0] * (WIDTH - 9)]


def test_later_annotations_of_the_file_cover_earlier_ones_and_crowds_are_drawn(tmp_path: Path):
    value = content(1)
    rows = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 2, 5, HEIGHT * (WIDTH - 2) - 5]}
    value["annotations"] += [annotation(3, 1, 1, rows, crowd=1), annotation(2, 1, 8, box(2, 0, 3, 2))]
    column = Coco(make_coco(tmp_path, value), "train").read(0).label[:, 2]
    assert column.tolist() == [7, 7, 1, 1, 1, *[3] * 20, *[0] * (HEIGHT - 25)]


@pytest.mark.parametrize(("rows", "kept"), [(25, [1, 2, 3]), (24.9, [1, 2, 3]), (24, [2, 3])])
def test_images_of_a_thousand_labelled_pixels_are_kept(tmp_path: Path, rows: float, kept: list[int]):
    value = content(3)
    value["annotations"][0]["segmentation"] = box(0, 0, 40, rows)
    dataset = Coco(make_coco(tmp_path, value), "train")
    assert [int(dataset.key(index)) for index in range(len(dataset))] == kept


def test_pixels_that_two_annotations_share_count_once(tmp_path: Path):
    value = content(2)
    value["annotations"] = [
        annotation(1, 1, 3, box(0, 0, 40, 20)),
        annotation(2, 1, 1, box(0, 0, 40, 20)),
        annotation(3, 2, 3, box(0, 0, 40, 20)),
        annotation(4, 2, 1, box(0, 20, 40, 25)),
    ]
    dataset = Coco(make_coco(tmp_path, value), "train")
    assert [dataset.key(index) for index in range(len(dataset))] == ["000000000002"]


def test_images_without_annotations_are_kept_when_no_pixels_are_asked_for(tmp_path: Path):
    value = content(2)
    del value["annotations"][0]
    root = make_coco(tmp_path, value)
    everything = Coco(root, "train", min_pixels=0)
    assert everything.name == "coco9-min0/mixed"
    assert [int(everything.read(index).label.max()) for index in range(2)] == [0, 3]
    assert len(Coco(root, "train")) == 1


def test_other_classes_are_chosen_by_name_in_the_order_given(tmp_path: Path):
    value = content(1)
    value["annotations"].append(annotation(5, 1, 5, box(0, 30, 1, 31)))
    dataset = Coco(make_coco(tmp_path, value), "train", classes=("airplane", "car"))
    assert dataset.labels.classes == ("background", "airplane", "car")
    assert np.unique(dataset.read(0).label).tolist() == [0, 1, 2]
    assert dataset.labels.name != coco_labels(("car", "airplane")).name


def test_all_classes_are_those_of_the_json_in_its_order(tmp_path: Path):
    value = content(1)
    dataset = Coco(make_coco(tmp_path, value), "train", classes="all")
    assert dataset.labels.classes == ("background", *(category["name"] for category in value["categories"]))
    assert len(set(dataset.labels.palette)) == len(dataset.labels)


def test_file_names_with_other_letters_are_read(tmp_path: Path):
    value = content(1)
    value["images"][0]["file_name"] = "straße \u2603.jpg"
    root = make_coco(tmp_path, value)
    (root / "annotations/instances_train2017.json").write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    assert Coco(root, "train").read(0).key == "straße \u2603"


def test_a_file_name_cannot_leave_the_folder_of_images(tmp_path: Path):
    root = make_coco(tmp_path / "coco", content(1))
    value = content(1)
    value["images"][0]["file_name"] = "../../000000000001.jpg"
    (root / "annotations/instances_train2017.json").write_text(json.dumps(value))
    assert Coco(root, "train").paths(0)[0] == root / "train2017/000000000001.jpg"


def test_the_fingerprint_follows_annotations_pictures_and_choices(tmp_path: Path):
    root = make_coco(tmp_path)

    def fingerprint(**choice) -> str:
        return Coco(root, "train", **choice).fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    found = [first, fingerprint(classes=("car",)), fingerprint(min_pixels=0)]
    picture = root / "train2017/000000000001.jpg"
    picture.write_bytes(picture.read_bytes() + b"\0")
    found.append(fingerprint())
    value = content()
    value["annotations"][0]["segmentation"] = box(0, 0, 40, 26)
    (root / "annotations/instances_train2017.json").write_text(json.dumps(value))
    found.append(fingerprint())
    assert len(set(found)) == 5


def test_a_dataset_can_be_handed_to_another_process(tmp_path: Path):
    dataset = Coco(make_coco(tmp_path), "train")
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again.read(0).label, dataset.read(0).label)


def test_sound_data_passes_the_check(tmp_path: Path):
    report = check_dataset(make_coco(tmp_path))
    assert report.ok
    assert {problem.kind for problem in report.problems} == {"absent class"}
    assert report.classes["car"].pixels == 2000


@pytest.mark.parametrize("split", ["vall", "test"])
def test_another_split_is_refused(tmp_path: Path, split: str):
    with pytest.raises(FeathersegError, match="There are: train, val"):
        Coco(make_coco(tmp_path), split)


@pytest.mark.shared
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_miniature_is_read_as_pycocotools_reads_it(
    shared_data: Path, split: str, capsys: pytest.CaptureFixture[str]
):
    """Every picture and every pixel, and which images have a thousand pixels of the nine classes."""
    root = shared_data / "coco-mini-38"
    oracle = COCO(root / f"annotations/instances_{split}2017.json")
    numbers = {oracle.getCatIds([name])[0]: number for number, name in enumerate(CLASSES, 1)}
    expected = {}
    for image in oracle.loadImgs(oracle.getImgIds()):
        label = np.zeros((image["height"], image["width"]), np.uint8)
        for found in oracle.loadAnns(oracle.getAnnIds([image["id"]])):
            if found["category_id"] in numbers:
                label[oracle.annToMask(found) > 0] = numbers[found["category_id"]]
        expected[Path(image["file_name"]).stem] = label
    everything, kept = Coco(root, split, min_pixels=0), Coco(root, split)
    assert len(everything) == len(expected) == {"train": 32, "val": 6}[split]
    for index in range(len(everything)):
        sample = everything.read(index)
        assert sample.image.shape[:2] == sample.label.shape
        assert np.array_equal(sample.label, expected[sample.key]), sample.key
    many = {key for key, label in expected.items() if np.count_nonzero(label) >= 1000}
    assert {kept.key(index) for index in range(len(kept))} == many
    capsys.readouterr()
