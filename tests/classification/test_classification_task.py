"""Pre-training an encoder, and handing it to a segmentation network."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.classification.task import ClassificationTask, open_folders
from featherseg.classification.views import random_resized_crop
from featherseg.data.batches import BatchPlan, training_batches
from featherseg.errors import FeathersegError
from featherseg.models.importer import import_encoder
from featherseg.models.registry import create_model
from featherseg.models.weights import read_metadata, read_weights
from featherseg.recipes.reading import parse_recipe
from featherseg.recipes.schema import Recipe
from featherseg.training.log import read_log
from featherseg.training.loop import train
from featherseg.training.segmentation import build_initial_network
from featherseg.training.task import UpdateSize

COLOURS = {"blue": (200, 40, 30), "green": (30, 200, 40), "red": (20, 40, 200)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, colour in COLOURS.items():
            (tmp_path / "colours" / split / name).mkdir(parents=True)
            for number in range(count):
                image = np.array(colour, np.uint8) + random.integers(0, 40, (40, 36, 3)).astype(np.uint8)
                cv2.imwrite(str(tmp_path / "colours" / split / name / f"{number}.png"), image)
    return tmp_path / "colours"


def recipe(source: Path, **sections: dict[str, Any]) -> Recipe:
    values: dict[str, Any] = {
        "name": "colours",
        "task": "classification",
        "model": {"name": "hardnet_petite"},
        "data": {"source": str(source)},
        "augment": {"crop": [32, 32], "scale": [0.25, 1.0]},
        "optimizer": {"lr": 0.05},
        "train": {"steps": 3, "batch_size": 6, "precision": "fp32", "workers": 0, "threads": 1, "log_every": 1},
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    return parse_recipe(values, "colours")


@settings(max_examples=100)
@given(
    seed=st.integers(0, 9999),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    area=st.sampled_from([(0.08, 1.0), (1.0, 1.0), (0.25, 0.3)]),
)
def test_every_image_gives_a_crop_of_the_size_asked_for(seed, shape, size, area) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)
    crops = [random_resized_crop(image, size, area, np.random.default_rng(seed)) for _ in range(2)]
    assert (crops[0].shape, crops[0].dtype) == ((*size, 3), np.uint8)
    assert np.array_equal(*crops)


def test_crops_have_the_share_of_the_area_and_the_aspect_that_were_asked_for() -> None:
    """Read off a picture whose red is the column and whose green is the row."""
    rows, columns = np.mgrid[:200, :200].astype(np.uint8)
    image = np.stack([columns, rows, rows], -1)
    areas, aspects = [], []
    for seed in range(300):
        crop = random_resized_crop(image, (50, 50), (0.25, 0.5), np.random.default_rng(seed)).astype(float)
        # 50 samples lie 1/50 of the crop apart: the outer ones span 49/50 of it.
        width, height = ((crop[..., c].max() - crop[..., c].min()) * 50 / 49 for c in (0, 1))
        areas.append(width * height / 200**2)
        aspects.append(width / height)
    assert 0.22 < min(areas) < 0.29
    assert 0.46 < max(areas) < 0.54
    assert 0.7 < min(aspects) < 0.8
    assert 1.25 < max(aspects) < 1.42
    assert np.mean(np.log(aspects)) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_the_same_with_a_worker_and_from_any_step(workers: int, source: Path) -> None:
    task, plan = ClassificationTask(recipe(source)), BatchPlan(12, 5)
    whole = list(training_batches(task.samples, plan, start=0, stop=6, workers=0))
    part = list(training_batches(task.samples, plan, start=2, stop=6, workers=workers))
    assert [batch.keys for batch in part] == [batch.keys for batch in whole[2:]]
    assert all(torch.equal(a.images, b.images) for a, b in zip(part, whole[2:], strict=True))
    assert sorted(key for batch in whole[:3] for key in batch.keys) == sorted(key for _, key in task.train.entries)
    assert all(
        task.train.classes[int(t)] == k.split("/")[0] for b in whole for t, k in zip(b.targets, b.keys, strict=True)
    )


def test_decoded_images_are_kept_or_not_as_the_recipe_says(source: Path) -> None:
    for cache in (True, False):
        samples = ClassificationTask(recipe(source, data={"cache": cache})).samples
        samples[(0, 0)]
        assert len(samples._kept) == int(cache)


def test_an_encoder_learns_and_starts_a_segmentation_network(source: Path, tmp_path: Path) -> None:
    settings = recipe(source, train={"steps": 8})
    result = train(ClassificationTask(settings), settings, tmp_path / "run")
    losses = [entry["loss"] for entry in read_log(tmp_path / "run") if "loss" in entry]
    assert losses[-1] < losses[0]
    assert {"score", "top1", "top5", "mean_class_accuracy", "images", "protocol"} <= set(result.figures)
    assert result.figures["top5"] == 100  # of three classes
    path = tmp_path / "run" / "weights.safetensors"
    about = read_metadata(path)
    assert (about["task"], about["classes"], about["num_classes"]) == ("classification", list(COLOURS), 3)

    segmentation = parse_recipe(
        {
            "name": "x",
            "model": {"name": "fassd_net_l2"},
            "data": {"source": "streets"},
            "augment": {"crop": [64, 64]},
            "train": {"steps": 1},
            "start": {"encoder": str(path)},
        },
        "x",
    )
    network, start = build_initial_network(segmentation, 11)
    assert start is not None
    assert "tensors matched" in start.lines[0]
    encoder = {k: v for k, v in read_weights(path).tensors.items() if k.startswith("base.")}
    own = {k: v for k, v in network.state_dict().items() if k.startswith("base.")}
    assert set(own) == set(encoder)
    assert all(torch.equal(own[name], encoder[name]) for name in own)


def test_label_smoothing_and_parts_of_a_batch_add_up(source: Path) -> None:
    task = ClassificationTask(recipe(source, loss={"label_smoothing": 0.2}))
    (batch,) = training_batches(task.samples, BatchPlan(12, 6), start=0, stop=1, workers=0)
    network = task.network.eval()
    with torch.no_grad():
        size = UpdateSize(task.weight(batch), len(batch))
        whole = task.loss(network, batch, size)
        parts = sum(task.loss(network, part, size) for part in batch.split(4))
        shares = network(task.spec.normalise(batch.images)).log_softmax(1)
    target = torch.nn.functional.one_hot(batch.targets, 3) * 0.8 + 0.2 / 3
    assert whole.item() == pytest.approx(-(target * shares).sum(1).mean().item(), rel=1e-5)
    assert float(parts) == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("augment", [{"mixup": 0.4}, {"cutmix": 1.0}], ids=["mixup", "cutmix"])
def test_mixed_targets_are_learnt_by_their_weights_and_parts_add_up(source: Path, augment: dict[str, float]) -> None:
    task = ClassificationTask(recipe(source, augment=augment, loss={"label_smoothing": 0.2}))
    (batch,) = training_batches(task.samples, BatchPlan(12, 6), start=0, stop=1, workers=0)
    network = task.network.eval()
    with torch.no_grad():
        size = UpdateSize(task.weight(batch), len(batch))
        whole = task.loss(network, batch, size)
        parts = sum(task.loss(network, part, size) for part in batch.split(4))
        shares = network(task.spec.normalise(batch.images)).log_softmax(1)
    target = torch.zeros(6, 3)
    for row, (one, other, weight) in zip(target, batch.targets.tolist(), strict=True):
        row[int(one)] += weight
        row[int(other)] += 1 - weight
    target = target * 0.8 + 0.2 / 3
    assert len({row[0] != row[1] for row in batch.targets.tolist()}) == 2  # of one class, and of two
    assert whole.item() == pytest.approx(-(target * shares).sum(1).mean().item(), rel=1e-5)
    assert float(parts) == pytest.approx(whole.item(), rel=1e-5)


def test_a_classifier_starts_with_all_but_the_logits_of_a_file_that_has_more_than_its_encoder(
    source: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    other = create_model("shufflenet_v2", 7)
    path = tmp_path / "theirs.pth"
    torch.save(other.state_dict(), path)
    task = ClassificationTask(recipe(source, model={"name": "shufflenet_v2"}, start={"encoder": str(path)}))
    own = task.network.state_dict()
    logits = tuple(task.network.logits_prefixes)  # type: ignore[attr-defined]
    assert any("taken over as well" in line for line in task.start_lines())
    for name, tensor in other.state_dict().items():
        same = own[name].shape == tensor.shape and torch.equal(own[name], tensor)
        assert same != name.startswith(logits), name


def test_a_classifier_starts_its_head_anew_where_the_file_has_none(source: Path, tmp_path: Path) -> None:
    trunk = {k: v for k, v in create_model("shufflenet_v2", 7).state_dict().items() if k.startswith("base.")}
    torch.save(trunk, tmp_path / "trunk.pth")
    start = {"encoder": str(tmp_path / "trunk.pth")}
    task = ClassificationTask(recipe(source, model={"name": "shufflenet_v2"}, start=start))
    assert any("starts fresh" in line for line in task.start_lines())


@pytest.mark.shared
def test_mobilenet_v2_starts_from_public_imagenet_features(source: Path, shared_data: Path) -> None:
    path = shared_data / "pretrained-weights" / "mobilenetv2_1.0_imagenet_features_mixed16.pth"
    task = ClassificationTask(recipe(source, model={"name": "mobilenet_v2"}, start={"encoder": str(path)}))
    assert any("head taken over as well" in line for line in task.start_lines())


def test_a_class_of_val_that_train_lacks_is_refused_before_training(source: Path) -> None:
    (source / "val/red").rename(source / "val/images")
    with pytest.raises(FeathersegError, match=r"1 classes of val do not occur in train \(images\).*classes' names"):
        ClassificationTask(recipe(source))


def test_images_of_a_folder_with_splits_that_are_trained_on_are_not_judged(source: Path) -> None:
    with pytest.raises(FeathersegError, match=r"12 of the 12 images of data\.val_split=train are trained on too"):
        open_folders(recipe(source, data={"val_split": "train"}))


@pytest.mark.parametrize(("train_split", "val_split"), [("trainval", "val"), ("test", "test"), ("train", "trainval")])
def test_images_of_a_drawn_split_that_are_trained_on_are_not_judged(
    train_split: str, val_split: str, source: Path
) -> None:
    data = {"source": str(source / "train"), "test_count": 3, "val_count": 2}
    open_folders(recipe(source, data=data | {"train_split": "trainval", "val_split": "test"}))
    with pytest.raises(FeathersegError, match=r"trained on too.*data\.train_split=trainval data\.val_split=test"):
        open_folders(recipe(source, data=data | {"train_split": train_split, "val_split": val_split}))


def test_an_encoder_that_is_too_small_is_refused_and_the_network_left_alone(source: Path) -> None:
    small, network = create_model("hardnet_petite", 3, num_blocks=3), create_model("fassd_net_l2", 11)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(FeathersegError, match="not an encoder of this"):
        import_encoder(network, small.state_dict())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
