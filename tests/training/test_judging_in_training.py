"""Judging in mid-run leaves the network as it was: its mode, its very tensors, their memory format."""

from pathlib import Path

import pytest
import torch
from tiny_task import TinyNet, TinyScenes, TinyTask, run_tiny, tiny_recipe

from featherseg.training.checkpoint import load_checkpoint
from featherseg.training.evaluation import evaluate
from featherseg.training.log import read_log
from featherseg.training.loop import train


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_the_network_keeps_its_tensors_their_format_and_its_mode(layout: torch.memory_format, training: bool) -> None:
    network = TinyNet().to(memory_format=layout).train(training)  # type: ignore[call-overload]
    before = [(p.data_ptr(), p.stride()) for p in network.parameters()]
    statistics = network.base[1].running_mean.clone()  # type: ignore[operator]
    evaluate(network, TinyScenes("val", 2), thorough=False)
    assert [(p.data_ptr(), p.stride()) for p in network.parameters()] == before
    assert network.training == training
    assert torch.equal(network.base[1].running_mean, statistics)  # type: ignore[arg-type]


def test_how_often_a_run_is_judged_changes_no_loss(tmp_path: Path) -> None:
    curves = []
    for every in (1, None):
        run_tiny(tmp_path / str(every), tiny_recipe(train={"evaluate_every": every, "ema": 0.9}))
        curves.append([entry["loss"] for entry in read_log(tmp_path / str(every)) if "loss" in entry])
    assert curves[0] == curves[1]


def test_the_averaged_weights_are_judged_and_the_trained_ones_put_back(tmp_path: Path) -> None:
    recipe = tiny_recipe(train={"ema": 0.9, "steps": 3})
    task = TinyTask(recipe)
    judged: list[torch.Tensor] = []
    real = task.evaluate

    def evaluate_and_remember(network: torch.nn.Module, progress: object) -> dict:
        judged.append(network.state_dict()["head.weight"].clone())
        return real(network, None)

    task.evaluate = evaluate_and_remember  # type: ignore[method-assign]

    train(task, recipe, tmp_path)
    found = load_checkpoint(tmp_path)
    assert torch.equal(judged[0], found.group("ema")["head.weight"])
    assert torch.equal(task.network.head.weight, found.group("model")["head.weight"])
    assert not torch.equal(judged[0], task.network.head.weight)
