"""The segmentation task: its criterion adds up over parts, and its recipe is checked before training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from featherseg.data.labels import IGNORE
from featherseg.errors import FeathersegError
from featherseg.losses.boundary import boundary_loss
from featherseg.losses.cross_entropy import bootstrapped
from featherseg.losses.jaccard import soft_jaccard
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.registry import create_model
from featherseg.models.weights import build_network, describe_network, read_weights, save_weights
from featherseg.recipes.reading import parse_recipe
from featherseg.recipes.schema import Loss, Recipe
from featherseg.training.log import read_log
from featherseg.training.loop import train
from featherseg.training.segmentation import SegmentationTask, build_initial_network, criterion
from featherseg.training.task import UpdateSize

SPEC = InputSpec(output_stride=4)


def recipe(**sections: dict[str, Any]) -> Recipe:
    values: dict[str, Any] = {
        "name": "small",
        "model": {"name": "fassd_net_l2"},
        "data": {"source": "streets", "size": [64, 96], "count": 4, "val_count": 1},
        "augment": {"crop": [64, 64]},
        "train": {"steps": 2, "batch_size": 2, "precision": "bf16", "workers": 0, "threads": 1, "log_every": 1},
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    return parse_recipe(values, "small")


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (4, 16, 16), generator=random).to(torch.uint8)
    labels[0, :12], labels[3] = IGNORE, IGNORE  # one image nearly without labels, one quite
    return torch.randn(4, 3, 4, 4, generator=random) * 3, labels


@pytest.mark.parametrize("kind", ["cross_entropy", "bootstrapped"])
def test_the_parts_of_a_batch_add_up_to_the_whole(kind: Any) -> None:
    logits, labels = batch()
    settings = Loss(kind=kind, min_kept=40 if kind == "bootstrapped" else None)

    def weight(part: Tensor) -> float:
        return float((part != IGNORE).sum()) if kind == "cross_entropy" else float(len(part))

    def loss(rows: slice) -> Tensor:
        part = labels[rows]
        return criterion(
            SegmentationOutput(logits[rows]),
            part,
            settings,
            SPEC,
            weight=weight(part),
            total=UpdateSize(weight(labels), len(labels)),
        )

    whole = loss(slice(0, 4)).item()
    assert sum(loss(slice(a, b)).item() for a, b in ((0, 1), (1, 3), (3, 4))) == pytest.approx(whole, rel=1e-5)
    full = F.interpolate(logits, size=(16, 16), mode="bilinear", align_corners=True)
    if kind == "cross_entropy":
        assert whole == pytest.approx(F.cross_entropy(full, labels.long(), ignore_index=IGNORE).item(), rel=1e-5)
    else:
        each = F.cross_entropy(full, labels.long(), ignore_index=IGNORE, reduction="none")
        assert whole == pytest.approx(bootstrapped(each, min_kept=40, threshold=0.3).item(), rel=1e-5)


@pytest.mark.parametrize("boundary", ["corrected", "published", "none"])
def test_heads_of_training_weigh_as_in_equation_4_and_their_parts_add_up(boundary: Any) -> None:
    logits, labels = batch()
    random = torch.Generator().manual_seed(2)
    auxiliary, edges = torch.randn(4, 3, 2, 2, generator=random), torch.randn(4, 1, 4, 4, generator=random)
    settings, size = Loss(boundary=boundary), UpdateSize(float((labels != IGNORE).sum()), 4)

    def loss(rows: slice, heads: bool = True) -> float:
        output = SegmentationOutput(logits[rows], (auxiliary[rows],) if heads else None, edges[rows] if heads else None)
        weight = float((labels[rows] != IGNORE).sum())
        return criterion(output, labels[rows], settings, SPEC, weight=weight, total=size).item()

    whole = loss(slice(0, 4))
    assert sum(loss(slice(a, b)) for a, b in ((0, 1), (1, 3), (3, 4))) == pytest.approx(whole, rel=1e-5)
    full = F.interpolate(auxiliary, size=(16, 16), mode="bilinear", align_corners=True)
    second = F.cross_entropy(full, labels.long(), ignore_index=IGNORE).item()
    third = 0.0 if boundary == "none" else boundary_loss(edges, labels, boundary).mean().item()
    assert whole - loss(slice(0, 4), heads=False) == pytest.approx(0.2 * second + 0.1 * third, rel=1e-4)


def test_the_soft_jaccard_loss_joins_the_pixel_loss_by_its_weight() -> None:
    logits, labels = batch()
    weight = float((labels != IGNORE).sum())

    def loss(jaccard_weight: float) -> float:
        settings = Loss(jaccard_weight=jaccard_weight)
        output = SegmentationOutput(logits)
        return criterion(output, labels, settings, SPEC, weight=weight, total=UpdateSize(weight, 4)).item()

    assert loss(0.5) - loss(0.0) == pytest.approx(0.5 * soft_jaccard(logits, labels, align_corners=True).item())


def test_the_papers_constants_are_what_a_bare_kind_means() -> None:
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 20, 20, generator=random)
    labels = torch.randint(0, 3, (2, 80, 80), generator=random).to(torch.uint8)
    ours = criterion(
        SegmentationOutput(logits), labels, Loss(kind="bootstrapped"), SPEC, weight=2.0, total=UpdateSize(2.0, 2)
    )
    full = F.interpolate(logits, size=(80, 80), mode="bilinear", align_corners=True)
    each = F.cross_entropy(full, labels.long(), reduction="none")
    assert ours.item() == pytest.approx(bootstrapped(each, min_kept=4096, threshold=0.3).item(), rel=1e-5)


def test_a_batch_without_labels_has_no_loss_and_a_zero_gradient() -> None:
    logits, labels = batch()
    for kind in ("cross_entropy", "ohem", "bootstrapped"):
        ours = logits.clone().requires_grad_()
        blank = torch.full_like(labels, IGNORE)
        settings = Loss(kind=kind, jaccard_weight=1.0)
        loss = criterion(SegmentationOutput(ours), blank, settings, SPEC, weight=0.0, total=UpdateSize(4.0, 4))
        loss.backward()
        assert loss.item() == 0.0
        assert torch.equal(ours.grad, torch.zeros_like(logits))  # type: ignore[arg-type]


def test_a_network_trains_on_streets_and_the_run_tells_what_it_was(tmp_path: Any) -> None:
    settings = recipe()
    task = SegmentationTask(settings)
    result = train(task, settings, tmp_path)
    assert len([entry for entry in read_log(tmp_path) if "loss" in entry]) == 2
    assert result.figures["protocol"].endswith("train→val")
    weights = read_weights(tmp_path / "weights.safetensors")
    assert weights.metadata["classes"] == list(task.train.labels.classes)
    assert weights.metadata["training"]["step"] == 2
    network = build_network(weights, "weights")
    assert torch.equal(network.state_dict()["base.0.conv.weight"], task.network.state_dict()["base.0.conv.weight"])


def test_fresh_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (
        build_initial_network(recipe(train={"seed": seed}), 3)[0].state_dict()["base.0.conv.weight"]
        for seed in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_class_weights_for_another_number_of_classes_are_refused() -> None:
    with pytest.raises(FeathersegError, match=r"class_weights has 2 values.*11 classes"):
        SegmentationTask(recipe(loss={"class_weights": [1.0, 2.0]}))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"name": "shufflenet_v2"}, "a network for classification, .* mean 'shufflenet_v2_aspp'"),
        ({"name": "drbanet", "arguments": {"num_classes": 5}}, r"model\.arguments\.num_classes: is decided by"),
        ({"name": "drbanet", "arguments": {"name": "x"}}, r"model\.arguments\.name: is decided by"),
    ],
)
def test_networks_that_no_segmentation_can_train_are_refused(model: dict, told: str) -> None:
    with pytest.raises(FeathersegError, match=told):
        SegmentationTask(recipe(model=model))


def test_weights_to_start_from_that_are_not_there_are_named(tmp_path: Any) -> None:
    for key in ("encoder", "weights"):
        with pytest.raises(FeathersegError, match=r"gone\.safetensors"):
            build_initial_network(recipe(start={key: str(tmp_path / "gone.safetensors")}), 3)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of a fresh ShuffleNet's weights."""
    network = create_model("shufflenet_v2_basic", 3)
    path = tmp_path_factory.mktemp("kept") / "kept.safetensors"
    save_weights(path, network.state_dict(), describe_network(network, "shufflenet_v2_basic", 3))
    return str(path)


def begin(start: dict[str, Any], **arguments: Any) -> list[str]:
    """The start lines of a ShuffleNet with ``arguments``."""
    model = {"name": "shufflenet_v2_basic", "arguments": arguments}
    started = build_initial_network(recipe(model=model, start=start), 3)[1]
    assert started is not None
    return started.lines


@pytest.mark.parametrize("carry", ["everything", "all_but_logits", "backbone"])
def test_weights_that_mean_something_else_in_the_recipes_network_are_refused_or_told(carry: str, kept: str) -> None:
    start = {"weights": kept, "carry": carry}
    assert not any("the file's network" in line for line in begin(start, dropout=0.0))
    (line,) = (line for line in begin(start, padding="tf_same") if "the file's network" in line)
    assert line.endswith("has padding symmetric, this one tf_same: to compute the same, give padding=symmetric")
    with pytest.raises(FeathersegError, match=r"kept\.safetensors: .*this network's as in torchvision.*routing=tf"):
        begin(start, routing="torchvision")


def test_an_encoder_of_ours_tells_each_difference_once(kept: str) -> None:
    lines = begin({"encoder": kept}, padding="tf_same", dilation="released")
    told = [line for line in lines if "the file's network" in line]
    assert [line.rpartition("give ")[2] for line in told] == ["padding=symmetric", "dilation=paper"]


def test_an_encoder_file_without_metadata_starts_a_network_as_ever(kept: str, tmp_path: Path) -> None:
    torch.save(read_weights(kept).tensors, tmp_path / "theirs.pth")
    lines = begin({"encoder": str(tmp_path / "theirs.pth")}, padding="tf_same")
    assert "100.00 %" in lines[0]
    assert not any("the file's network" in line for line in lines)
