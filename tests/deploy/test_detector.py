"""A detector in use: pictures in, boxes, files and pictures out."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import featherseg
from featherseg.deploy.detector import Detections, Detector, detector
from featherseg.deploy.loading import load, load_classifier, load_detector
from featherseg.errors import FeathersegError
from featherseg.metrics.kitti import KittiDetections
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, save_weights

MOBILE = {"trunk": "mobilenet_v2"}


def random_detector(classes: tuple[str, ...] = ("Car",)) -> Detector:
    torch.manual_seed(0)
    network = create_model("pyramid_rpn", len(classes), **MOBILE)
    about = describe_network(network, "pyramid_rpn", len(classes), MOBILE) | {"classes": list(classes)}
    return detector(network, about, name="random")


def detections() -> Detections:
    boxes = np.array([[10, 20, 60, 50], [40.25, 8, 90, 44.5]], np.float32)
    image = np.full((64, 100, 3), 90, np.uint8)
    return Detections(boxes, np.array([0.9, 0.3], np.float32), np.array([0, 0]), ("Car",), image)


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (65, 33)])
def test_pictures_of_any_size_give_boxes_inside_them_best_first(size) -> None:
    found = random_detector().predict(np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8))
    assert found.boxes.shape == (len(found), 4)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [size[1], size[0]] * 2).all()
    assert (np.diff(found.scores) <= 0).all()


def test_what_is_asked_of_an_array_is_checked() -> None:
    with pytest.raises(FeathersegError, match="must be uint8"):
        random_detector().predict(np.zeros((8, 8, 3)))


def test_spoilt_weights_are_told_of() -> None:
    found = random_detector()
    torch.nn.init.constant_(found.network.head.scores.bias, float("nan"))
    with pytest.raises(FeathersegError, match="not finite"):
        found.predict(np.zeros((40, 40, 3), np.uint8))


def test_saved_weights_come_back_as_a_detector(tmp_path: Path) -> None:
    ours = random_detector(("Car", "Cyclist"))
    path = ours.save(tmp_path / "w.safetensors")
    image = np.random.default_rng(1).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    for loaded in (load(path), load_detector(path), featherseg.load(path)):
        assert isinstance(loaded, Detector)
        assert loaded.classes == ("Car", "Cyclist")
        assert np.array_equal(loaded.predict(image).boxes, ours.predict(image).boxes)
    with pytest.raises(FeathersegError, match="is no classifier"):
        load_classifier(path)


def test_weights_of_something_else_are_no_detector(tmp_path: Path) -> None:
    network = create_model("hardnet_petite", 2)
    about = describe_network(network, "hardnet_petite", 2)
    path = save_weights(tmp_path / "w.safetensors", network.state_dict(), about)
    with pytest.raises(FeathersegError, match="hardnet_petite is no detector"):
        load_detector(path)


def test_classes_that_do_not_fit_are_refused() -> None:
    found = random_detector()
    with pytest.raises(FeathersegError, match="do not fit the network's 1 classes"):
        detector(found.network, found.metadata | {"classes": ["Car", "Van"]})


def test_the_picture_shows_the_sure_boxes_alone() -> None:
    found = detections()
    plain, drawn = found.image, found.draw()
    changed = (drawn != plain).any(-1)
    assert drawn.shape == plain.shape
    assert changed[20:51, 10].all()
    assert changed[50, 10:61].all()
    assert not changed[25:44, 65:].any()
    assert (found.draw(0.2) != plain).any(-1)[9:44, 90].all()
    assert len(found.above(0.5)) == 1
    assert str(found) == "1 Car"
    assert (found.image == 90).all()


def test_files_hold_the_boxes_in_json_and_in_kittis_format(tmp_path: Path) -> None:
    found = detections()
    found.save(tmp_path, "monday/0001")
    about = json.loads((tmp_path / "monday/0001.json").read_text())
    assert about["size"] == {"height": 64, "width": 100}
    assert about["boxes"][0] == {"class": "Car", "score": 0.9, "box": [10, 20, 60, 50]}
    from featherseg.data.kitti_results import read_result

    back = read_result(tmp_path / "monday/0001.txt")
    assert isinstance(back, KittiDetections)
    assert back.names == ("Car", "Car")
    assert np.array_equal(back.boxes.astype(np.float32), found.boxes)
    picture = cv2.imread(str(tmp_path / "monday/0001_boxes.jpg"))
    assert picture is not None
    assert picture.shape == (64, 100, 3)


def test_classes_that_are_not_kittis_write_no_kitti_file_and_pictures_are_a_choice(tmp_path: Path) -> None:
    found = detections()
    other = Detections(found.boxes, found.scores, found.labels, ("boat",), found.image)
    other.save(tmp_path, "a", overlay=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json"]
    with pytest.raises(FeathersegError, match="'boat' is no class of KITTI"):
        other.kitti_text()
