"""Detection as a task of the training loop, end to end on painted rectangles."""

import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from painted_boxes import PaintedBoxes

from featherseg.data.batches import BatchPlan, training_batches
from featherseg.data.kitti import Kitti
from featherseg.detection.evaluation import evaluate_detector
from featherseg.detection.inference import AnchorCache, detect
from featherseg.detection.targets import NEITHER
from featherseg.detection.task import DetectionTask, open_splits
from featherseg.errors import FeathersegError
from featherseg.models.registry import create_model
from featherseg.models.weights import build_network, describe_network, read_metadata, read_weights, save_weights
from featherseg.recipes.reading import parse_recipe
from featherseg.recipes.schema import Recipe
from featherseg.training.log import read_log
from featherseg.training.loop import train
from featherseg.training.resume import check_same_recipe
from featherseg.training.task import UpdateSize

SPLITS = (PaintedBoxes("train"), PaintedBoxes("val", 2))


def recipe(**sections: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "painted",
        "task": "detection",
        "model": {"name": "pyramid_rpn", "arguments": {"trunk": "mobilenet_v2"}},
        "data": {"source": "painted"},
        "augment": {"crop": [96, 160], "scale": [0.9, 1.1]},
        "optimizer": {"kind": "adamw", "lr": 0.001},
        "schedule": {"kind": "constant"},
        "train": {"steps": 4, "batch_size": 2, "precision": "fp32", "workers": 0, "threads": 1, "log_every": 1},
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    return parse_recipe(values, "painted")


def batch_of(task: DetectionTask, size: int = 4):
    (batch,) = training_batches(task.samples, BatchPlan(task.length, size), start=0, stop=1, workers=0)
    return batch


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_log(folder) if "loss" in entry]


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    settings = recipe()
    train(DetectionTask(settings, SPLITS), settings, tmp_path / "whole")

    def stop(entry: dict[str, Any]) -> None:
        if entry["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    train(DetectionTask(settings, SPLITS), settings, tmp_path / "parts", progress=stop)
    assert len(losses(tmp_path / "parts")) == 2
    train(DetectionTask(settings, SPLITS), settings, tmp_path / "parts", resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    ours, theirs = (read_weights(tmp_path / name / "weights.safetensors").tensors for name in ("parts", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_checkpoint_from_before_there_was_detection_can_be_resumed(tmp_path: Path) -> None:
    now = parse_recipe(
        {
            "name": "x",
            "model": {"name": "fassd_net_l2"},
            "data": {"source": "streets"},
            "augment": {"crop": [64, 64]},
            "train": {"steps": 1},
        },
        "x",
    ).model_dump(mode="json")
    before = {section: values for section, values in now.items() if section != "detection"}
    check_same_recipe(before, now, tmp_path)
    with pytest.raises(FeathersegError, match=r"other values of detection\.samples"):
        check_same_recipe(before, now | {"detection": now["detection"] | {"samples": 9}}, tmp_path)


def test_weights_tell_what_they_are_and_give_the_detector_back(tmp_path: Path) -> None:
    settings = recipe(train={"steps": 1})
    result = train(DetectionTask(settings, SPLITS), settings, tmp_path)
    about = read_metadata(tmp_path / "weights.safetensors")
    assert (about["task"], about["classes"], about["num_classes"]) == ("detection", ["Car", "Pedestrian"], 2)
    assert about["trained_on"] == "painted/train"
    assert {"score", "ap", "map11", "images", "protocol"} <= set(result.figures)
    assert result.figures["protocol"] == "painted/train→val, KITTI 2D AP"
    network = build_network(read_weights(tmp_path / "weights.safetensors"), "w")
    found = detect(network, SPLITS[1].read(0).image, AnchorCache(network))
    assert len(found.boxes) == len(found.scores) == len(found.labels) <= 100


@pytest.mark.parametrize(("name", "steps"), [("pyramid_rpn", 60), ("pyramid_rpn_multi", 25)])
def test_one_image_is_learnt_by_heart(name: str, steps: int, tmp_path: Path) -> None:
    """Listed 41 times: with fewer boxes than points of recall even a perfect detector has no AP of 100."""
    one = PaintedBoxes("train", 1, (64, 128), repeats=41)
    settings = recipe(
        model={"name": name, "arguments": {"trunk": "mobilenet_v2", "trunk_arguments": {"norm_momentum": 0.5}}},
        augment={"crop": [64, 128], "flip": 0.0, "scale": [1.0, 1.0]},
        optimizer={"lr": 0.002},
        schedule={"kind": "cosine"},
        train={"steps": steps},
    )
    task = DetectionTask(settings, (one, PaintedBoxes("val", 1, (64, 128))))
    train(task, settings, tmp_path)
    ap = evaluate_detector(task.network, one).figures()["ap"]
    assert {name: levels["boxes"]["easy"] for name, levels in ap.items()} == {"Car": 41, "Pedestrian": 41}
    assert all(
        levels[kind][level] == 100 for levels in ap.values() for kind in ("ap11", "ap40") for level in levels[kind]
    )


def test_parts_of_a_batch_add_up() -> None:
    for kind in ("sampled", "focal"):
        task = DetectionTask(recipe(detection={"loss": kind}), SPLITS)
        batch, network = batch_of(task), task.network.eval()
        with torch.no_grad():
            size = UpdateSize(task.weight(batch), len(batch))
            whole = task.loss(network, batch, size)
            parts = sum(task.loss(network, part, size) for part in batch.split(3))
        assert float(parts) == pytest.approx(whole.item(), rel=1e-4)


def test_targets_are_the_boxes_and_the_sample_follows_the_step() -> None:
    task = DetectionTask(recipe(), SPLITS)
    _, target, key = task.samples[(0, 0)]
    anchors = task.anchors(96, 160, torch.device("cpu"))

    def at(step: int):
        torch.manual_seed(step)
        return task.targets(anchors, torch.from_numpy(target), key)

    classes, wanted = at(1)
    assert int((classes >= 0).sum()) <= 256
    assert set(classes.unique().tolist()) <= {-1, 0, 1, 2}
    assert (wanted[classes > 0] != 0).any(1).all()
    assert (wanted[classes <= 0] == 0).all()
    assert torch.equal(classes, at(1)[0])
    assert not torch.equal(classes, at(2)[0])
    assert NEITHER not in classes


def test_ssd_learns_with_its_own_loss_on_resized_crops() -> None:
    """Its network takes too long here; what the task makes of it does not."""
    task = DetectionTask(recipe(model={"name": "ssd300_vgg16", "arguments": {}}), SPLITS)
    assert task.kind == "multibox"
    assert (task.rules.positive_iou, task.rules.negative_iou) == (0.5, 0.5)
    image, target, key = task.samples[(0, 0)]
    assert image.shape == (300, 300, 3)
    anchors = task.anchors(300, 300, torch.device("cpu"))
    classes, wanted = task.targets(anchors, torch.from_numpy(target), key)
    boxes = int((torch.from_numpy(target)[:, 4] >= 0).sum())
    assert int((classes > 0).sum()) >= boxes
    scores = torch.zeros(len(anchors), 3)
    expected = torch.log(torch.tensor(3.0)) * 4  # an object and three of background, none known better than by chance
    assert float(task._image_loss(scores, wanted, wanted, classes)) == pytest.approx(float(expected), rel=1e-5)


def test_a_classifiers_trunk_starts_a_detector(tmp_path: Path) -> None:
    torch.manual_seed(5)
    classifier = create_model("mobilenet_v2", 3)
    about = describe_network(classifier, "mobilenet_v2", 3)
    path = save_weights(tmp_path / "classifier.safetensors", classifier.state_dict(), about)
    task = DetectionTask(recipe(start={"encoder": str(path)}), SPLITS)
    own = task.network.state_dict()
    trunk = {name: value for name, value in classifier.state_dict().items() if name.startswith("base.")}
    assert all(torch.equal(own[name], value) for name, value in trunk.items())
    assert "tensors matched" in task.start_lines()[0]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"detection": {"loss": "multibox"}}, "detection.loss=multibox: the network's scores are sigmoid"),
        ({"detection": {"positive_iou": 0.4, "negative_iou": 0.5}}, "detection.negative_iou=0.5 is above"),
        ({"model": {"name": "fassd_net_l2", "arguments": {}}}, "a network for segmentation, and this is a detection"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(FeathersegError, match=said):
        DetectionTask(recipe(**sections), SPLITS)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"loss": {"kind": "ohem"}}, "loss.kind: a detection has no use for it; write it in the section detection"),
        ({"augment": {"flip_last": True}}, "augment.flip_last: a detection has no use for it"),
        ({"task": "segmentation", "data": {"target": "vehicle"}}, "data.target: is of a detection"),
        ({"task": "segmentation", "detection": {"samples": 9}}, "detection.samples: is of a detection"),
    ],
)
def test_settings_without_use_are_refused(sections: dict[str, Any], said: str) -> None:
    smallest = {
        "name": "x",
        "task": "detection",
        "model": {"name": "pyramid_rpn"},
        "data": {"source": "streets"},
        "augment": {"crop": [9, 9]},
        "train": {"steps": 1},
    }
    merged = {
        key: smallest.get(key, {}) | value if isinstance(value, dict) else value for key, value in sections.items()
    }
    with pytest.raises(FeathersegError, match=said):
        parse_recipe(smallest | merged, "x")


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Four frames with a car each, half of them for training, and one without labels."""
    for part, keys in (("training", "0123"), ("testing", "0")):
        for folder in ("image_2", "label_2"):
            (tmp_path / "kitti" / part / folder).mkdir(parents=True)
        for key in keys:
            cv2.imwrite(str(tmp_path / "kitti" / part / "image_2" / f"{key}.png"), np.zeros((40, 70, 3), np.uint8))
    for key in "0123":
        line = "Car 0.00 0 0 5.00 5.00 45.00 35.00 1.5 1.6 3.9 1.0 1.6 20.0 0\n"
        (tmp_path / "kitti/training/label_2" / f"{key}.txt").write_text(line)
    (tmp_path / "kitti/ImageSets").mkdir()
    (tmp_path / "kitti/ImageSets/train.txt").write_text("0\n1\n")
    (tmp_path / "kitti/ImageSets/val.txt").write_text("2\n3\n")
    return tmp_path / "kitti"


@pytest.mark.parametrize("setting", ["train_split", "val_split"])
def test_a_split_without_public_labels_is_refused_before_training(setting: str, kitti: Path) -> None:
    with pytest.raises(FeathersegError, match=rf"labels of 'test' are not public.*Set data\.{setting} to another"):
        open_splits(recipe(data={"source": str(kitti), setting: "test"}))


def test_scenes_without_a_vehicle_are_refused_as_files_are() -> None:
    with pytest.raises(FeathersegError, match=r"split 'train': no Car in any of its 3 images.*a larger size"):
        open_splits(recipe(data={"source": "streets", "size": [8, 12], "count": 3}))


@pytest.mark.parametrize(("train_split", "val_split"), [("trainval", "val"), ("train", "train")])
def test_images_that_are_trained_on_are_not_judged(train_split: str, val_split: str, kitti: Path) -> None:
    settings = recipe(data={"source": str(kitti), "train_split": train_split, "val_split": val_split})
    with pytest.raises(FeathersegError, match=r"are trained on too, as train.*or to none to train without judging"):
        open_splits(settings)


def test_all_frames_are_trained_on_where_none_is_judged(kitti: Path, tmp_path: Path) -> None:
    data = {"source": str(kitti), "train_split": "trainval", "val_split": "none"}
    settings = recipe(data=data, augment={"crop": [32, 64]}, train={"steps": 1})
    task = DetectionTask(settings)
    assert (task.length, task.val) == (4, None)
    assert train(task, settings, tmp_path / "run").figures["score"] is None
    assert list(task.fingerprints()) == ["trainval"]


class TwoFrames(Kitti):
    """The first two frames of a split."""

    def __len__(self) -> int:
        return 2


@pytest.mark.shared
def test_it_trains_and_judges_on_kittis_frames(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "kitti-object-101"
    settings = recipe(augment={"crop": [96, 320]}, data={"source": str(root)}, train={"steps": 1})
    frames, judged = open_splits(settings)
    assert (len(frames), judged and len(judged)) == (58, 43)
    figures = train(DetectionTask(settings, (frames, TwoFrames(root, "val"))), settings, tmp_path).figures
    assert set(figures["ap"]) == {"Car"}
    assert figures["images"] == 2
