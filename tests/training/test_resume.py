"""A run that was stopped anywhere and goes on gives the same bytes as one that was not: weights, best, log."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import TinyTask, run_tiny, tiny_recipe, traces

from featherseg.errors import FeathersegError
from featherseg.training.checkpoint import load_checkpoint, save_checkpoint
from featherseg.training.log import read_log
from featherseg.training.loop import train
from featherseg.training.resume import check_same_recipe

# Eight steps of two epochs: stopped in mid-epoch, at its end, at a judged step and at the last.
SHORT = {"epochs": 2, "evaluate_every": 1}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "sgd": {},
    "adamw, decay groups": {"optimizer": {"kind": "adamw", "lr": 0.01, "decay": "kernels"}},
    "ema": {"train": {"ema": 0.9}},
    "accumulation, clipping": {"train": {"accumulation": 2, "clip_norm": 0.5}},
    "bf16": {"train": {"precision": "bf16"}},
    "contiguous": {"train": {"channels_last": False}},
    "a worker, class-uniform": {"train": {"workers": 1}, "data": {"class_uniform": 0.5}},
    "two threads": {"train": {"threads": 2}},
}


def short(variant: str) -> Any:
    sections = VARIANTS[variant]
    return tiny_recipe(**(sections | {"train": SHORT | sections.get("train", {})}))


def stop_at(step: int, number: signal.Signals = signal.SIGINT) -> Any:
    """A progress callback that sends this process a signal when ``step`` is done."""

    def progress(entry: dict[str, Any]) -> None:
        if entry["step"] == step:
            os.kill(os.getpid(), number)

    return progress


@pytest.fixture(autouse=True)
def _threads_as_before() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_at_any_step_and_resumed_the_run_leaves_the_same_bytes(variant: str, tmp_path: Path) -> None:
    recipe = short(variant)
    run_tiny(tmp_path / "whole", recipe)
    expected = traces(tmp_path / "whole")
    assert {"weights.safetensors", "best.safetensors"} < set(expected)
    for step in (1, 4, 7, 8) if variant != "sgd" else range(1, 9):
        folder = tmp_path / f"stopped-{step}"
        stopped = run_tiny(folder, recipe, progress=stop_at(step))
        assert (stopped.step, stopped.stopped_by) == (step, signal.SIGINT)
        assert not (folder / "weights.safetensors").exists()
        finished = run_tiny(folder, recipe, resume=True)
        assert (finished.step, finished.stopped_by) == (8, None)
        assert traces(folder) == expected, f"stopped after step {step}"


@pytest.mark.parametrize("variant", ["ema", "contiguous"])
def test_a_run_that_died_between_checkpoints_goes_on_from_the_last(variant: str, tmp_path: Path) -> None:
    recipe = short(variant)
    run_tiny(tmp_path / "whole", recipe)

    class Died(Exception):
        pass

    def die(entry: dict[str, Any]) -> None:
        if entry["step"] == 8:
            raise Died

    folder = tmp_path / "died"
    with pytest.raises(Died):
        run_tiny(folder, recipe, progress=die)
    assert [entry["step"] for entry in read_log(folder)][-1] == 8  # beyond the checkpoint of step 6
    resumed_from: list[int] = []
    run_tiny(folder, recipe, resume=True, progress=lambda entry: resumed_from.append(entry["step"] - 1))
    assert resumed_from[0] == 6
    assert traces(folder) == traces(tmp_path / "whole")


def test_sigterm_stops_like_ctrl_c(tmp_path: Path) -> None:
    stopped = run_tiny(tmp_path, tiny_recipe(), progress=stop_at(5, signal.SIGTERM))
    assert (stopped.step, stopped.stopped_by) == (5, signal.SIGTERM)
    assert run_tiny(tmp_path, tiny_recipe(), resume=True).step == 12


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it

    def progress(entry: dict[str, Any]) -> None:
        if entry["step"] == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path, tiny_recipe(), progress=progress)
    assert signal.getsignal(signal.SIGINT) is before
    assert run_tiny(tmp_path, tiny_recipe(), resume=True).step == 12


def test_ctrl_c_while_the_end_is_judged_still_ends_the_run_as_done(tmp_path: Path) -> None:
    def interrupt(done: int, count: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    recipe = tiny_recipe(train={"steps": 2, "evaluate_every": None})
    result = run_tiny(tmp_path, recipe, evaluation_progress=lambda done, count: done == 1 and interrupt(done, count))
    assert result.stopped_by is None
    assert (tmp_path / "weights.safetensors").exists()


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first = run_tiny(tmp_path, tiny_recipe())
    before = traces(tmp_path)
    again = run_tiny(tmp_path, tiny_recipe(), resume=True)
    assert traces(tmp_path) == before
    assert (again.figures, again.best) == (first.figures, first.best)


def test_resuming_with_another_recipe_is_refused_and_names_what_changed(tmp_path: Path) -> None:
    run_tiny(tmp_path, tiny_recipe(), progress=stop_at(2))
    changed = tiny_recipe(optimizer={"lr": 0.2}, train={"seed": 1})
    with pytest.raises(FeathersegError, match=r"optimizer\.lr, train\.seed.*same recipe"):
        run_tiny(tmp_path, changed, resume=True)


def test_a_field_that_exists_no_more_hinders_only_where_it_said_something(tmp_path: Path) -> None:
    recipe = tiny_recipe().model_dump(mode="json")
    check_same_recipe(recipe | {"terms": ""}, recipe, tmp_path)
    with pytest.raises(FeathersegError, match="other values of terms"):
        check_same_recipe(recipe | {"terms": "none"}, recipe, tmp_path)


def test_settings_that_no_weight_depends_on_may_change_at_resumption(tmp_path: Path) -> None:
    run_tiny(tmp_path, tiny_recipe(), progress=stop_at(2))
    changed = tiny_recipe(train={"checkpoint_every": 5, "log_every": 2, "workers": 1})
    assert run_tiny(tmp_path, changed, resume=True).step == 12


def test_a_checkpoint_made_before_a_setting_existed_resumes_where_the_setting_is_at_its_default(tmp_path: Path) -> None:
    run_tiny(tmp_path, tiny_recipe(), progress=stop_at(2))
    found = load_checkpoint(tmp_path)
    del found.recipe["loss"]["boundary"], found.recipe["optimizer"]["betas"]
    save_checkpoint(tmp_path, found)
    with pytest.raises(FeathersegError, match=r"loss\.boundary"):
        run_tiny(tmp_path, tiny_recipe(loss={"boundary": "none"}), resume=True)
    assert run_tiny(tmp_path, tiny_recipe(), resume=True).step == 12


def test_a_folder_that_holds_a_run_is_refused_without_resume(tmp_path: Path) -> None:
    run_tiny(tmp_path, tiny_recipe(train={"steps": 1}))
    before = traces(tmp_path)
    with pytest.raises(FeathersegError, match="holds the checkpoint of a run"):
        run_tiny(tmp_path, tiny_recipe(train={"steps": 1}))
    assert traces(tmp_path) == before


def test_resuming_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeathersegError, match="no checkpoint to resume from"):
        run_tiny(tmp_path, tiny_recipe(), resume=True)


def test_the_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    run_tiny(tmp_path, recipe, progress=stop_at(2))
    task = TinyTask(recipe)
    task.network.head = torch.nn.Conv2d(8, 4, 3)
    with pytest.raises(FeathersegError, match="another network"):
        train(task, recipe, tmp_path, resume=True)


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    run_tiny(tmp_path, tiny_recipe(), progress=stop_at(2))
    (tmp_path / ".checkpoint.safetensors.x1y2.tmp").write_bytes(b"half")
    run_tiny(tmp_path, tiny_recipe(), resume=True)
    assert not list(tmp_path.glob(".*"))


def test_layers_that_draw_random_numbers_resume_exactly_too(tmp_path: Path) -> None:
    def run(folder: Path, **options: Any) -> None:
        task = TinyTask(tiny_recipe())
        task.network.base.append(torch.nn.Dropout(0.5))
        train(task, tiny_recipe(), folder, **options)

    run(tmp_path / "whole")
    run(tmp_path / "stopped", progress=stop_at(5))
    torch.rand(3)  # the generator's state is not what it would have been
    run(tmp_path / "stopped", resume=True)
    assert traces(tmp_path / "stopped") == traces(tmp_path / "whole")
