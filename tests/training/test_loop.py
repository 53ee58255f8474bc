"""The loop: what it writes, how parts and processes add up, and how it meets faults."""

import builtins
import errno
import gc
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import TinyTask, run_tiny, tiny_recipe, traces
from torch import Tensor

from featherseg.data.batches import Batch
from featherseg.data.dataset import Sample
from featherseg.errors import FeathersegError
from featherseg.models.registry import create_model
from featherseg.training.checkpoint import load_checkpoint
from featherseg.training.log import read_log
from featherseg.training.loop import TrainingDiverged, train

GOLDEN = Path(__file__).parents[1] / "golden" / "losses" / "tiny_task.txt"


def tensors(folder: Path, group: str = "model") -> dict[str, Tensor]:
    return load_checkpoint(folder).group(group)


def test_the_loss_curve_is_the_golden_one(tmp_path: Path) -> None:
    """Twelve steps in fp32 on one thread; the file says how it was made."""
    run_tiny(tmp_path, tiny_recipe(optimizer={"lr": 0.01}))
    losses = [entry["loss"] for entry in read_log(tmp_path) if "loss" in entry]
    golden = [float(line) for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    assert losses == pytest.approx(golden, rel=1e-5)


def test_the_log_tells_every_step_its_rate_and_the_judgements(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    result = run_tiny(tmp_path, tiny_recipe(), progress=seen.append)
    log = read_log(tmp_path)
    steps = [entry for entry in log if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, 13))
    assert [entry["epoch"] for entry in steps] == [0] * 4 + [1] * 4 + [2] * 4
    assert [entry["lr"] for entry in steps] == pytest.approx([0.1 * (1 - t / 12) ** 0.9 for t in range(12)])
    judged = {entry["step"]: entry["evaluation"]["score"] for entry in log if "evaluation" in entry}
    assert list(judged) == [8, 12]
    assert result.best == {"step": max(judged, key=judged.__getitem__), "score": max(judged.values())}
    assert [entry["seconds_left"] for entry in seen][-1] == 0
    assert seen[-1]["steps"] == 12


def test_training_learns(tmp_path: Path) -> None:
    result = run_tiny(tmp_path, tiny_recipe(train={"epochs": 15, "evaluate_every": 15, "log_every": 60}))
    assert result.figures["score"] > 60


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        run_tiny(tmp_path / name, tiny_recipe(train={"seed": seed, "steps": 3}))
    assert traces(tmp_path / "one") == traces(tmp_path / "two")
    assert traces(tmp_path / "one")["log"] != traces(tmp_path / "three")["log"]


def test_two_accumulated_parts_equal_the_whole_batch_with_frozen_batch_norm(tmp_path: Path) -> None:
    """Although the parts carry unequal numbers of labels."""
    results = []
    for parts in (1, 2, 5):
        settings = {"steps": 4, "batch_size": 5, "accumulation": parts, "freeze_bn": True, "drop_last": True}
        run_tiny(tmp_path / str(parts), tiny_recipe(train=settings))
        results.append(
            (tensors(tmp_path / str(parts)), [e["loss"] for e in read_log(tmp_path / str(parts)) if "loss" in e])
        )
    for weights, losses in results[1:]:
        assert losses == pytest.approx(results[0][1], rel=1e-5)
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, results[0][0][name], rtol=1e-5, atol=1e-6)


def test_frozen_batch_norm_keeps_its_statistics_and_judging_does_not_thaw_it(tmp_path: Path) -> None:
    run_tiny(tmp_path, tiny_recipe(train={"freeze_bn": True, "evaluate_every": 1}))
    weights = tensors(tmp_path)
    assert torch.equal(weights["base.1.running_mean"], torch.zeros(8))
    assert not torch.equal(weights["base.1.weight"], torch.ones(8))


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    plain = {"optimizer": {"momentum": 0.0, "weight_decay": 0.0, "lr": 1.0}, "schedule": {"kind": "constant"}}
    recipe = tiny_recipe(**plain, train={"steps": 1, "clip_norm": 0.01})  # type: ignore[arg-type]
    start = {name: p.detach().clone() for name, p in TinyTask(recipe).network.named_parameters()}
    run_tiny(tmp_path, recipe)
    after = tensors(tmp_path)
    assert torch.stack([(after[n] - p).norm() for n, p in start.items()]).norm() == pytest.approx(0.01, rel=1e-4)


def test_the_weights_that_are_judged_and_written_are_the_averaged_ones(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run_tiny(tmp_path, tiny_recipe(train={"ema": 0.9, "steps": 4}))
    written, averaged = load_file(tmp_path / "weights.safetensors"), tensors(tmp_path, "ema")
    assert all(torch.equal(written[name], averaged[name]) for name in averaged)
    assert not torch.equal(written["head.weight"], tensors(tmp_path)["head.weight"])


def spoil_step(number: int, value: float) -> Any:
    """A fault that gives ``value`` for the loss of the batch of step ``number``."""
    count = 0

    def fault(batch: Batch, loss: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return loss * value if count == number else loss

    return fault


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_keeps_the_keys(value: float, tmp_path: Path) -> None:
    recipe = tiny_recipe(train={"checkpoint_every": 1})
    task = TinyTask(recipe, spoil_step(6, value))
    with pytest.raises(TrainingDiverged, match=r"loss of step 6 is (nan|inf).*not-finite-step-000006.*another name"):
        train(task, recipe, tmp_path)
    report = json.loads((tmp_path / "not-finite-step-000006-rank-0.json").read_text())
    assert report["step"] == 6
    assert len(report["keys"]) == 3
    assert set(report["keys"]) <= {f"train-{i}" for i in range(10)}
    assert all(torch.equal(p, tensors(tmp_path)[n]) for n, p in task.network.named_parameters())
    # The cause is mended: the run goes on as if nothing had been.
    run_tiny(tmp_path, recipe, resume=True)
    run_tiny(tmp_path / "whole", recipe)
    assert traces(tmp_path) == traces(tmp_path / "whole")


def test_weights_that_overflow_under_a_finite_loss_never_reach_a_checkpoint(tmp_path: Path) -> None:
    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: Tensor) -> Tensor:  # type: ignore[override]
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * float("inf")

    seen = 0

    def fault(batch: Batch, loss: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        return Overflow.apply(loss) if seen == 3 else loss  # type: ignore[return-value]

    recipe = tiny_recipe(train={"checkpoint_every": 1})
    with pytest.raises(TrainingDiverged, match="weights after step 3 are not finite"):
        train(TinyTask(recipe, fault), recipe, tmp_path)
    assert load_checkpoint(tmp_path).step == 2


def test_a_full_disk_in_mid_run_gives_one_message_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe()
    real, saves = os.replace, 0

    def full(source: Any, target: Any) -> None:
        nonlocal saves
        saves += str(target).endswith("checkpoint.safetensors")
        if saves >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FeathersegError, match="no space left"):
        run_tiny(tmp_path, recipe)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path).step == 3
    run_tiny(tmp_path, recipe, resume=True)
    run_tiny(tmp_path / "whole", recipe)
    assert traces(tmp_path) == traces(tmp_path / "whole")


def test_a_spoilt_sample_stops_the_run_with_the_readers_message(tmp_path: Path) -> None:
    recipe = tiny_recipe(train={"workers": 1})
    task = TinyTask(recipe)

    def read(index: int) -> Sample:
        raise FeathersegError(f"image-{index}.png: truncated. Copy it again.")

    task.train.read = read  # type: ignore[method-assign]
    with pytest.raises(FeathersegError, match=r"^image-\d+\.png: truncated\. Copy it again\.$"):
        train(task, recipe, tmp_path)


def test_batch_norm_on_one_value_says_what_to_change(tmp_path: Path) -> None:
    recipe = tiny_recipe(model={"name": "fassd_net_aspp"}, train={"batch_size": 1})
    task = TinyTask(recipe)
    task.network = create_model("fassd_net_aspp", 3)  # type: ignore[assignment]
    with pytest.raises(FeathersegError, match=r"batch of one.*train\.batch_size >= 2.*freeze_bn"):
        train(task, recipe, tmp_path)


@pytest.mark.parametrize(
    ("device", "message"), [("gpu", "is no device"), ("meta", "CPUs and CUDA"), ("cuda:77", "no GPU|counted from 0")]
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FeathersegError, match=message):
        run_tiny(tmp_path, tiny_recipe(train={"device": device}))


def test_an_empty_training_split_is_refused(tmp_path: Path) -> None:
    task = TinyTask(tiny_recipe())
    task.length = 0
    with pytest.raises(FeathersegError, match="training split is empty"):
        train(task, tiny_recipe(), tmp_path)


def test_a_validation_split_without_labels_has_no_score_and_stops_nothing(tmp_path: Path) -> None:
    recipe = tiny_recipe(train={"evaluate_every": 1})
    task = TinyTask(recipe)
    blank = task.val.read(0)
    task.val.read = lambda index: Sample(blank.image, np.full_like(blank.label, 255), "blank")  # type: ignore[method-assign]
    result = train(task, recipe, tmp_path)
    assert result.best == {"step": 4, "score": None}


def test_tensorboard_without_the_package_names_the_pip_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if "tensorboard" in name:
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FeathersegError, match=r"pip install 'featherseg\[tensorboard\]'"):
        run_tiny(tmp_path, tiny_recipe(train={"tensorboard": True}))


def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    """As many live tensors and bytes in them at step 60 as at step 20, and no kibibyte a step beside them."""
    tensors_alive: dict[int, tuple[int, int]] = {}
    beside: dict[int, int] = {}

    def measure(entry: dict[str, Any]) -> None:
        step = entry["step"]
        if step in (20, 60):
            gc.collect()
            alive = [item for item in gc.get_objects() if type(item) in (Tensor, torch.nn.Parameter)]
            tensors_alive[step] = (len(alive), sum(item.numel() * item.element_size() for item in alive))
            beside[step] = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        settings = {"epochs": 15, "ema": 0.9, "evaluate_every": 2, "checkpoint_every": 5}
        run_tiny(tmp_path, tiny_recipe(train=settings), progress=measure)
    finally:
        tracemalloc.stop()
    assert tensors_alive[60] == tensors_alive[20]
    assert beside[60] - beside[20] < 40 * 1024
