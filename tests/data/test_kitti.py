"""KITTI's object data in its distributed layout, on tiny frames made here and on real ones."""

from pathlib import Path

import numpy as np
import pytest
from kitti_miniature import CAR, PEDESTRIAN, TRUCK, VAN, write_frame, write_kitti, write_sets

from featherseg.data.detection_sources import detection_splits, open_detection
from featherseg.data.headers import SpoiltFile
from featherseg.data.images import read_image
from featherseg.data.kitti import Kitti
from featherseg.data.kitti_labels import read_labels
from featherseg.data.sources import open_dataset
from featherseg.errors import FeathersegError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_kitti(tmp_path)


def test_splits_are_those_of_the_lists_and_the_test_images(root: Path) -> None:
    assert detection_splits(root) == ["train", "val", "test"]
    assert [len(open_detection(root, split)) for split in ("train", "val", "test")] == [3, 1, 2]


def test_without_lists_all_labelled_images_are_one_split(tmp_path: Path) -> None:
    for key in ("000003", "000001"):
        write_frame(tmp_path, key, [CAR])
    assert detection_splits(tmp_path) == ["trainval"]
    assert [open_detection(tmp_path, "trainval").key(index) for index in range(2)] == ["000001", "000003"]


def test_all_labelled_images_can_be_had_beside_the_lists(root: Path) -> None:
    assert len(Kitti(root, "trainval")) == 4


def test_the_order_is_that_of_the_list(root: Path) -> None:
    write_sets(root, train=["000005", "000000"])
    assert [Kitti(root, "train").key(index) for index in range(2)] == ["000005", "000000"]


def test_a_label_is_read_field_by_field(root: Path) -> None:
    truth = Kitti(root, "train").truth(0)
    assert truth.names == ("Car", "Van", "DontCare")
    assert truth.boxes.tolist() == [[10.0, 12.5, 30.25, 30.0], [35.0, 10.0, 50.0, 25.0], [1.0, 2.0, 8.0, 6.0]]
    assert truth.truncation.tolist() == [0.1, 0.0, -1.0]
    assert truth.occlusion.tolist() == [1, 0, -1]


def test_a_sample_is_the_image_and_the_boxes_of_cars(root: Path) -> None:
    sample = Kitti(root, "train").read(0)
    np.testing.assert_array_equal(sample.image, read_image(root / "training/image_2/000000.png"))
    assert sample.key == "000000"
    assert sample.boxes.tolist() == [[10.0, 12.5, 30.25, 30.0]]
    assert sample.boxes.dtype == np.float32
    assert sample.labels.tolist() == [0]
    assert sample.labels.dtype == np.int64


def test_vans_and_dont_care_regions_are_ignored_where_cars_are_learnt(root: Path) -> None:
    assert Kitti(root, "train").read(0).ignored.tolist() == [[35.0, 10.0, 50.0, 25.0], [1.0, 2.0, 8.0, 6.0]]


def test_trucks_are_background_where_cars_are_learnt(root: Path) -> None:
    sample = Kitti(root, "train").read(1)
    assert sample.boxes.tolist() == [[11.0, 12.5, 30.25, 30.0]]
    assert len(sample.ignored) == 0


def test_vehicles_are_cars_vans_and_trucks_as_one_class(root: Path) -> None:
    data = Kitti(root, "train", target="vehicle")
    samples = [data.read(0), data.read(1)]
    assert data.classes == ("vehicle",)
    assert [len(sample.boxes) for sample in samples] == [2, 2]
    assert samples[0].ignored.tolist() == [[1.0, 2.0, 8.0, 6.0]]
    assert samples[1].labels.tolist() == [0, 0]


def test_an_image_without_the_target_is_a_sample_all_the_same(root: Path) -> None:
    sample = Kitti(root, "train").read(2)
    assert sample.boxes.shape == (0, 4)
    assert sample.ignored.shape == (1, 4)


def test_an_empty_label_file_is_an_image_without_objects(root: Path) -> None:
    (root / "training/label_2/000005.txt").write_text("")
    assert Kitti(root, "train").read(2).ignored.shape == (0, 4)


def test_images_may_be_jpeg(tmp_path: Path) -> None:
    write_frame(tmp_path, "000000", [CAR], suffix=".jpg")
    assert Kitti(tmp_path, "trainval").read(0).image.shape == (40, 60, 3)


def test_test_images_have_no_labels(root: Path) -> None:
    data = Kitti(root, "test")
    assert data.labels_withheld
    assert data.read(0).boxes.shape == (0, 4)
    assert data.read(0).ignored.shape == (0, 4)
    with pytest.raises(FeathersegError, match="labels of 'test' are not public"):
        data.truth(0)


def test_the_fingerprint_is_that_of_files_and_target(root: Path) -> None:
    before = Kitti(root, "train").fingerprint()
    assert Kitti(root, "train").fingerprint() == before
    assert Kitti(root, "train", target="vehicle").fingerprint() != before
    assert Kitti(root, "val").fingerprint() != before
    write_frame(root, "000005", [PEDESTRIAN])
    assert Kitti(root, "train").fingerprint() != before


def test_names_tell_the_targets_apart(root: Path) -> None:
    assert Kitti(root, "train").name == "kitti-car/mixed"
    assert Kitti(root, "train", target="vehicle").name == "kitti-vehicle/mixed"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (CAR.rsplit(" ", 1)[0], r"000001\.txt: line 2: 14 fields, where a label has 15"),
        (
            f"{CAR} 0.98",
            r"line 2: 16 fields, the last of which is a score: this is a result file, where a label has 15",
        ),
        (CAR.replace("12.50", "nan"), r"line 2: the field 'top' is 'nan', not a number"),
        (CAR.replace("1.6 3.9", "inf 3.9"), r"line 2: the field 'width' is 'inf', not a number"),
        (CAR.replace("30.25", "x"), r"line 2: the field 'right' is 'x', not a number"),
        (CAR.replace("Car", "Cra"), r"line 2: no class is called 'Cra'; did you mean 'Car'\. There are: Car, Van"),
        (CAR.replace("30.25", "9.5"), r"line 2: the box \(10, 12\.5, 9\.5, 30\) has no area"),
        (CAR.replace("0.10", "1.5"), r"line 2: 'truncated' is 1\.5"),
        (CAR.replace("0.10 1", "0.10 4"), r"line 2: 'occluded' is 4"),
        (CAR.replace("0.10 1", "0.10 0.5"), r"line 2: 'occluded' is 0\.5"),
    ],
)
def test_a_wrong_label_stops_the_split_before_anything_is_trained(root: Path, line: str, message: str) -> None:
    (root / "training/label_2/000001.txt").write_text(f"{TRUCK}\n{line}\n")
    with pytest.raises(FeathersegError, match=message):
        Kitti(root, "train")
    Kitti(root, "val")


def test_a_label_that_is_no_text_is_refused(root: Path) -> None:
    (root / "training/label_2/000001.txt").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(FeathersegError, match=r"000001\.txt: is not plain text"):
        Kitti(root, "train")


@pytest.mark.parametrize(("old", "new"), [("30.25", "61.5"), ("10.00", "-1.5"), ("30.00", "41.5"), ("12.50", "-900")])
def test_a_box_outside_its_image_is_refused(root: Path, old: str, new: str) -> None:
    write_frame(root, "000000", [VAN, CAR.replace(old, new)])
    with pytest.raises(SpoiltFile, match=r"000000\.txt: the box .* of object 2 \(Car\) leaves its image of 60 x 40"):
        Kitti(root, "train").read(0)


@pytest.mark.parametrize(("old", "new"), [("30.25", "60.9"), ("10.00", "-0.9"), ("30.00", "41.0")])
def test_a_pixel_beyond_the_image_is_let_pass(root: Path, old: str, new: str) -> None:
    write_frame(root, "000000", [CAR.replace(old, new)])
    assert float(new) in np.round(Kitti(root, "train").read(0).boxes.astype(float), 4)


def test_images_without_a_label_file_are_named(root: Path) -> None:
    (root / "training/label_2/000005.txt").unlink()
    with pytest.raises(FeathersegError, match=r"split 'train': 1 images have no label file, 000005\.png among them"):
        Kitti(root, "train")


def test_listed_images_that_are_not_there_are_named(root: Path) -> None:
    (root / "training/image_2/000005.png").unlink()
    with pytest.raises(FeathersegError, match="1 of the listed images are not there, 000005 among them"):
        Kitti(root, "train")


def test_an_id_that_is_listed_twice_is_refused(root: Path) -> None:
    write_sets(root, train=["000000", "000001", "000000"])
    with pytest.raises(FeathersegError, match=r"train\.txt: line 3: 000000 stands on line 1 already"):
        Kitti(root, "train")


def test_a_split_without_any_vehicle_is_refused(root: Path) -> None:
    write_sets(root, val=["000005"])
    with pytest.raises(FeathersegError, match=r"split 'val': no Car in any of its 1 images"):
        Kitti(root, "val")


def test_a_split_may_have_vehicles_and_no_cars(root: Path) -> None:
    write_frame(root, "000002", [TRUCK])
    assert len(Kitti(root, "val", target="vehicle").read(0).boxes) == 1
    with pytest.raises(FeathersegError, match="no Car in any"):
        Kitti(root, "val")


def test_an_empty_split_is_refused(root: Path) -> None:
    write_sets(root, val=[])
    with pytest.raises(FeathersegError, match="split 'val' holds no images"):
        Kitti(root, "val")


def test_a_spoilt_image_is_named(root: Path) -> None:
    image = root / "training/image_2/000000.png"
    image.write_bytes(image.read_bytes()[:-30])
    with pytest.raises(FeathersegError, match=r"000000\.png: truncated PNG"):
        Kitti(root, "train").read(0)


def test_missing_lists_are_asked_for(tmp_path: Path) -> None:
    write_frame(tmp_path, "000000", [CAR])
    message = r"no split 'val'\. There are: trainval.* ImageSets/train\.txt and ImageSets/val\.txt, one id a line\.$"
    with pytest.raises(FeathersegError, match=message):
        open_detection(tmp_path, "val")


def test_an_unknown_split_names_those_that_exist(root: Path) -> None:
    with pytest.raises(FeathersegError, match=r"no split 'vall'\. There are: train, val, test; did you mean 'val'\.$"):
        open_detection(root, "vall")


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeathersegError, match="holds no data set of boxes"):
        open_detection(tmp_path, "train")
    with pytest.raises(FeathersegError, match=r"nowhere: no such folder"):
        open_detection(tmp_path / "nowhere", "train")
    with pytest.raises(FeathersegError, match="not laid out as KITTI"):
        Kitti(tmp_path, "train")


@pytest.mark.parametrize("option", [{"size": (8, 8)}, {"count": 3}])
def test_options_of_streets_are_refused_for_files(root: Path, option: dict) -> None:
    with pytest.raises(FeathersegError, match="are for 'streets'"):
        open_detection(root, "train", **option)


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(FeathersegError, match="a path or a name and a split"):
        open_detection(None, "train")  # type: ignore[arg-type]


def test_a_training_of_segmentation_is_told_that_there_are_no_masks(root: Path) -> None:
    with pytest.raises(FeathersegError, match="boxes and no masks"):
        open_dataset(root, "train")


@pytest.mark.shared
def test_the_real_frames_are_read(shared_data: Path) -> None:
    """Numbers of objects as its README tells them."""
    root = shared_data / "kitti-object-101"
    train, val = Kitti(root, "train"), Kitti(root, "val")
    assert (len(train), len(val)) == (58, 43)
    assert sum(data.count(index) for data in (train, val) for index in range(len(data))) == 303
    merged = Kitti(root, "trainval", target="vehicle")
    assert sum(merged.count(index) for index in range(len(merged))) == 303 + 34 + 14
    assert val.read(0).image.shape == (375, 1242, 3)
    assert read_labels(root / "training/label_2/000001.txt").names == ("Truck", "Car", "Cyclist", *("DontCare",) * 4)
