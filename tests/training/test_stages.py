"""Sequences of trainings: killed anywhere and resumed they leave the bytes of one that nobody stopped."""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_stages import DONE, StartedTask, run_sequence, sequence, sequence_traces, stage
from tiny_task import TinyTask, traces

from featherseg.errors import FeathersegError
from featherseg.models.weights import read_weights
from featherseg.recipes.schema import Recipe, StagedRecipe
from featherseg.training.checkpoint import load_checkpoint
from featherseg.training.loop import train
from featherseg.training.stages import StageRun, check_networks, plan_stages


def stop_at(name: str, step: int, number: signal.Signals = signal.SIGINT) -> Callable[[str, int], None]:
    def progress(stage_name: str, now: int) -> None:
        if (stage_name, now) == (name, step):
            os.kill(os.getpid(), number)

    return progress


class Died(Exception):
    """Stands for a process that ends at once."""


def die_at(name: str, step: int) -> Callable[[str, int], None]:
    def progress(stage_name: str, now: int) -> None:
        if (stage_name, now) == (name, step):
            raise Died

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sequence that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run_sequence(sequence(), folder)
    return folder


@pytest.mark.parametrize(
    ("stop", "stepped"),
    [
        (stop_at("first", 4), ["second", "third"]),
        (die_at("second", 2), ["second", "third"]),
        (stop_at("second", 1), ["second", "third"]),
        (die_at("second", 3), ["second", "third"]),
        (stop_at("third", 4, signal.SIGTERM), []),
    ],
    ids=["in the first's last step", "before a checkpoint", "in mid-stage", "between checkpoints", "in the last step"],
)
def test_a_stopped_sequence_goes_on_in_its_stage_to_the_same_bytes(
    stop: Callable, stepped: list[str], whole: Path, tmp_path: Path
) -> None:
    with suppress(Died):
        run_sequence(sequence(), tmp_path, progress=stop)
    assert not (tmp_path / "weights.safetensors").exists()
    assert run_sequence(sequence(), tmp_path, resume=True) == stepped
    assert sequence_traces(tmp_path) == sequence_traces(whole)


def test_a_stage_whose_last_file_is_not_there_yet_ends_without_another_step(whole: Path) -> None:
    before = sequence_traces(whole)
    (whole / "third" / DONE).unlink()
    assert run_sequence(sequence(), whole, resume=True) == []
    assert (whole / "third" / DONE).exists()
    assert sequence_traces(whole) == before


def test_a_finished_sequence_that_is_resumed_changes_nothing(whole: Path) -> None:
    before = sequence_traces(whole)
    assert run_sequence(sequence(), whole, resume=True) == []
    assert sequence_traces(whole) == before


def test_each_stage_begins_with_what_it_carries_over(whole: Path, tmp_path: Path) -> None:
    """The last (averaged) weights of the stage before; what is not carried is fresh by the stage's own seed."""
    runs = plan_stages(sequence(), whole, last=DONE, resume=True)
    for before, now, carried in ((0, 1, ("base.",)), (1, 2, ("base.", "head."))):
        source = read_weights(runs[before].folder / "weights.safetensors").tensors
        started = StartedTask(runs[now].recipe).network.state_dict()
        fresh = TinyTask(runs[now].recipe).network.state_dict()
        for name, tensor in started.items():
            assert torch.equal(tensor, source[name] if name.startswith(carried) else fresh[name]), name
    assert not torch.equal(fresh["base.0.weight"], started["base.0.weight"])


def test_the_kept_weights_are_the_last_stages(whole: Path) -> None:
    assert (whole / "weights.safetensors").read_bytes() == (whole / "third/weights.safetensors").read_bytes()


def test_the_recipe_of_a_stage_trains_the_same_alone(whole: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(load_checkpoint(whole / "second").recipe)
    train(StartedTask(recipe), recipe, tmp_path)
    assert traces(tmp_path) == traces(whole / "second")


@pytest.mark.parametrize("changed", [0, 1, 2], ids=["first", "second", "third"])
def test_a_stage_whose_recipe_was_changed_since_is_refused(changed: int, whole: Path) -> None:
    staged = sequence()
    stages = [one.model_dump() for one in staged.stages]
    stages[changed]["optimizer"]["lr"] = 0.5
    name = staged.stages[changed].name
    with pytest.raises(FeathersegError, match=rf"{name}: the checkpoint was made with other values of optimizer\.lr"):
        run_sequence(sequence(stages=stages), whole, resume=True)


def test_another_carry_is_another_recipe(whole: Path) -> None:
    stages = [one.model_dump() for one in sequence().stages]
    stages[2]["carry"] = "backbone"
    with pytest.raises(FeathersegError, match=r"third: .*other values of start\.carry"):
        run_sequence(sequence(stages=stages), whole, resume=True)


def test_a_stage_that_is_added_at_the_end_is_trained_on_resumption(whole: Path, tmp_path: Path) -> None:
    run_sequence(sequence(stages=[one.model_dump() for one in sequence().stages[:2]]), tmp_path)
    assert run_sequence(sequence(), tmp_path, resume=True) == ["third"]
    assert sequence_traces(tmp_path) == sequence_traces(whole)


def test_a_stage_begun_whose_predecessor_is_gone_is_refused(whole: Path, tmp_path: Path) -> None:
    for name in ("first", "third"):
        shutil.copytree(whole / name, tmp_path / name)
    with pytest.raises(FeathersegError, match=r"third: was begun, but second, which it starts from, is not finished"):
        run_sequence(sequence(), tmp_path, resume=True)


def test_a_folder_with_any_stage_in_it_is_refused_without_resume(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "second", tmp_path / "second")
    with pytest.raises(FeathersegError, match="second: holds the checkpoint of a run"):
        run_sequence(sequence(), tmp_path)


def test_resuming_what_was_never_begun_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeathersegError, match="first: there is no checkpoint to resume from"):
        run_sequence(sequence(), tmp_path, resume=True)


def real(*models: tuple[str, str | None]) -> list[StageRun]:
    stages = [stage(f"s{number}", carry, model={"name": name}) for number, (name, carry) in enumerate(models, start=1)]
    for one in stages:
        one["task"] = "classification" if one["model"]["name"] == "hardnet_petite" else "segmentation"
    return plan_stages(
        StagedRecipe.model_validate({"name": "x", "stages": stages}), Path("nowhere"), last=DONE, resume=False
    )


def test_carry_overs_that_fit_are_found_to_fit_before_there_are_weights() -> None:
    check_networks(real(("hardnet_petite", None), ("fassd_net_l2", "backbone"), ("fassd_net_l2", "all_but_logits")))


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([("fassd_nett", None)], "stage 1 of 1: s1: no network is called"),
        (
            [("hardnet_petite", None), ("fassd_net_l2", "all_but_logits")],
            r"stage 2 of 2: s2: nowhere/s1/weights\.safetensors: cannot carry all_but_logits over to this FASSDNet",
        ),
        ([("hardnet_petite", None), ("drbanet", "backbone")], "stage 2 of 2: s2: .*cannot carry the backbone over"),
    ],
)
def test_carry_overs_that_cannot_be_are_refused_before_the_first_step(models: list, message: str) -> None:
    with pytest.raises(FeathersegError, match=message):
        check_networks(real(*models))


def carried_on(carry: str, **arguments: Any) -> list[StageRun]:
    """Two stages of one network, the second with ``arguments``."""
    runs = real(("shufflenet_v2_basic", None), ("shufflenet_v2_basic", carry))
    recipe = runs[1].recipe
    model = recipe.model.model_copy(update={"arguments": arguments})
    runs[1] = replace(runs[1], recipe=recipe.model_copy(update={"model": model}))
    return runs


@pytest.mark.parametrize("carry", ["everything", "all_but_logits", "backbone"])
def test_a_stage_that_routes_channels_otherwise_is_refused_before_the_first_step(carry: str) -> None:
    with pytest.raises(FeathersegError, match=r"stage 2 of 2: s2: .*routed as in tf, this network's as in torchvision"):
        check_networks(carried_on(carry, routing="torchvision"))


def test_what_a_stage_computes_otherwise_is_told_before_the_first_step() -> None:
    (line,) = check_networks(carried_on("all_but_logits", padding="tf_same", dropout=0.0))
    assert line.startswith("stage 2 of 2: s2: all_but_logits from s1: the file's network has padding symmetric")
