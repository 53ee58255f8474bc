"""A teacher's outputs on disk: the same losses, bounded, and refused or made anew where they are another's."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from test_distillation_task import batch_of, losses, tutor, value_of
from tiny_students import run_student, student_recipe

from featherseg.data.batches import BatchPlan
from featherseg.distillation import cache as module
from featherseg.distillation.cache import RepeatedAugmentations, TeacherCache, stored
from featherseg.distillation.criterion import kept_of
from featherseg.distillation.task import DistillationTask
from featherseg.distillation.teacher import Taught, Teacher, teacher_of
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec
from featherseg.recipes.schema import Recipe
from featherseg.training.checkpoint import PREVIOUS

SETTINGS = {"affinity": {"weight": 1.0, "form": "pooled", "grid": [4, 8]}}


def cached(folder: Path, train: dict | None = None, **cache: object) -> Recipe:
    kept = {"folder": str(folder / "kept"), "epochs": 2} | cache
    return student_recipe(distillation=SETTINGS | {"cache": kept}, train=train or {})


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "kept").glob("*/*.safetensors"))


def never(*_: object) -> None:
    raise AssertionError("the teacher was asked")


def test_cached_losses_are_the_uncached_ones_within_half_precision(tmp_path):
    plain = DistillationTask(student_recipe(distillation=SETTINGS), tutor())
    keeping = DistillationTask(cached(tmp_path), tutor())
    for step in range(4):  # two epochs: none is repeated yet
        batch = batch_of(plain, step)
        assert batch_of(keeping, step).keys == batch.keys
        assert value_of(keeping, batch_of(keeping, step)) == pytest.approx(value_of(plain, batch), rel=1e-3)


def test_what_is_read_back_gives_the_same_bits_and_needs_no_teacher(tmp_path, monkeypatch):
    task = DistillationTask(cached(tmp_path), tutor())
    task.network.eval()
    first = value_of(task, batch_of(task))
    monkeypatch.setattr(Teacher, "__call__", never)
    assert value_of(task, batch_of(task)) == first


@pytest.mark.parametrize(("precision", "resolution"), [("fp32", "own"), ("bf16", "quarter")])
def test_a_run_through_the_cache_is_the_same_whether_it_was_filled_before(precision, resolution, tmp_path):
    recipe = cached(tmp_path, {"steps": 8, "precision": precision}, resolution=resolution)
    run_student(tmp_path / "filling", recipe, tutor())
    full = {path: path.read_bytes() for path in entries(tmp_path)}
    run_student(tmp_path / "filled", recipe, tutor())
    assert losses(tmp_path / "filled") == losses(tmp_path / "filling")
    assert {path: path.read_bytes() for path in entries(tmp_path)} == full


def test_a_run_killed_while_it_filled_the_cache_goes_on_to_the_same_losses(tmp_path):
    """Of the batch in which it was killed one entry is there, and one is not."""
    train = {"steps": 6}
    run_student(tmp_path / "whole", cached(tmp_path / "a", train), tutor())
    kept = {path.stem: path.stat().st_mtime_ns for path in entries(tmp_path / "a")}

    class Killed(Exception):
        pass

    def kill(entry: dict) -> None:
        if entry["step"] == 4:
            raise Killed

    with pytest.raises(Killed):
        run_student(tmp_path / "cut", cached(tmp_path / "b", train), tutor(), progress=kill)
    (tmp_path / "cut" / PREVIOUS).unlink(missing_ok=True)
    last = max(entries(tmp_path / "b"), key=lambda path: kept[path.stem])
    last.unlink()
    run_student(tmp_path / "cut", cached(tmp_path / "b", train), tutor(), resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_augmentations_repeat_so_that_the_cache_is_bounded(tmp_path, monkeypatch):
    run_student(tmp_path / "run", cached(tmp_path, {"steps": 4}), tutor())
    assert len(entries(tmp_path)) == 2 * 4
    monkeypatch.setattr(Teacher, "__call__", never)
    run_student(tmp_path / "again", cached(tmp_path, {"steps": 12}), tutor())
    assert len(entries(tmp_path)) == 2 * 4


def test_repeated_epochs_show_the_same_samples_in_another_order():
    class Places(torch.utils.data.Dataset):
        def __getitem__(self, place: tuple[int, int]) -> tuple[int, int]:
            return place

    repeated = RepeatedAugmentations(Places(), 50, 3, seed=7)
    epochs = [[repeated[place] for place in BatchPlan(50, 50).positions(epoch)] for epoch in range(7)]
    assert epochs[:3] == [[(epoch, position) for position in range(50)] for epoch in range(3)]
    for epoch in range(3, 7):
        assert sorted(epochs[epoch]) == epochs[epoch % 3]
        assert epochs[epoch] != epochs[epoch % 3]
    assert epochs[3] != epochs[6]


@pytest.mark.parametrize("fault", ["cut short", "flipped", "another's", "empty", "other names"])
def test_an_entry_that_is_spoilt_or_anothers_is_made_anew(fault, tmp_path):
    task = DistillationTask(cached(tmp_path), tutor())
    task.network.eval()
    wanted = value_of(task, batch_of(task))
    first, second = entries(tmp_path)
    whole = first.read_bytes()
    if fault == "cut short":
        first.write_bytes(whole[:-100])
    elif fault == "flipped":
        first.write_bytes(whole[:-100] + bytes([whole[-100] ^ 16]) + whole[-99:])
    elif fault == "another's":
        shutil.copy(second, first)
    elif fault == "empty":
        first.write_bytes(b"")
    else:
        first.write_bytes(whole.replace(b"map 1/4", b"map 1/5"))
    assert value_of(task, batch_of(task)) == wanted
    assert first.read_bytes() == whole


def test_the_cache_of_another_teacher_is_refused(tmp_path):
    task = DistillationTask(cached(tmp_path), tutor())
    value_of(task, batch_of(task))
    DistillationTask(cached(tmp_path), tutor())
    with pytest.raises(FeathersegError, match=r"kept: holds the outputs of another teacher: sha256 .* instead of"):
        DistillationTask(cached(tmp_path), tutor(2))
    with pytest.raises(FeathersegError, match="another teacher: precision 'fp32' instead of 'bf16'"):
        DistillationTask(cached(tmp_path, {"precision": "bf16"}), tutor())


def test_a_folder_of_other_things_is_not_filled(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "photo.png").write_bytes(b"")
    with pytest.raises(FeathersegError, match=r"kept: holds other files than a teacher's outputs"):
        DistillationTask(cached(tmp_path), tutor())
    (tmp_path / "kept" / "photo.png").rename(tmp_path / "kept" / "teacher.json")
    with pytest.raises(FeathersegError, match=r"teacher\.json: is not readable"):
        DistillationTask(cached(tmp_path), tutor())


def test_quarter_resolution_keeps_no_more_than_a_quarter_of_the_image(tmp_path):
    class Fine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 11, 3, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(images)

    sizes = {}
    for resolution in ("own", "quarter"):
        settings = {
            "affinity": {"weight": 0.0},
            "cache": {"folder": str(tmp_path / resolution), "resolution": resolution},
        }
        recipe = student_recipe(distillation=settings)
        task = DistillationTask(recipe, teacher_of(Fine(), spec=InputSpec(output_stride=1), name="fine"))
        value_of(task, batch_of(task))
        assert task.cache is not None
        found = task.cache.read(batch_of(task).images)
        assert found is not None
        sizes[resolution] = tuple(found["logits"].shape[-2:])
    assert sizes == {"own": (32, 64), "quarter": (8, 16)}


def test_what_is_kept_is_no_coarser_than_half_precision_in_a_bfloat16_training(tmp_path):
    """Reading logits on a coarser grid is a product of matrices, which autocast would round to bfloat16."""
    settings = {"affinity": {}, "cache": {"folder": str(tmp_path / "kept"), "resolution": "quarter"}}
    task = DistillationTask(student_recipe(distillation=settings, train={"precision": "bf16"}), tutor())
    fine = torch.linspace(-8, 8, 64).view(1, 1, 1, -1).expand(2, 11, 32, -1)
    spec = InputSpec(output_stride=1)
    plain = kept_of(Taught(fine, {}), task.settings, spec, (32, 64))["logits"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(kept_of(Taught(fine, {}), task.settings, spec, (32, 64))["logits"], plain)
    assert plain.shape[-1] == 16


def test_the_size_on_disk_is_told_beforehand_and_right(tmp_path):
    task = DistillationTask(cached(tmp_path), tutor())
    told = next(line for line in task.start_lines() if "kept in" in line)
    assert "at most 8 entries of" in told
    assert not entries(tmp_path)
    value_of(task, batch_of(task))
    largest = max(path.stat().st_size for path in entries(tmp_path))
    assert f"entries of {-(-largest // 4096) * 4096 / 1000:.3g} KB" in told


def test_a_disk_that_is_too_small_is_told_before_the_first_step(tmp_path, monkeypatch):
    task = DistillationTask(cached(tmp_path), tutor())
    usage = namedtuple("usage", "total used free")(100, 90, 10_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        FeathersegError, match=r"at most 8 entries .* and 10 KB free\. Lower distillation\.cache\.epochs"
    ):
        task.start_lines()


def test_a_disk_that_fills_up_ends_the_run_with_what_to_do(tmp_path, monkeypatch):
    task = DistillationTask(cached(tmp_path), tutor())

    def full(path: Path, content: bytes) -> Path:
        raise FeathersegError(f"{path}: could not be written: no space left on the device.")

    monkeypatch.setattr(module, "atomic_write", full)
    with pytest.raises(FeathersegError, match=r"no space left.*distillation\.cache.*go on with --resume"):
        value_of(task, batch_of(task))


def test_what_half_precision_cannot_hold_is_kept_at_its_ends():
    kept = stored({"logits": torch.tensor([1e6, -1e6, 1.0])})["logits"]
    assert kept.tolist() == [65504.0, -65504.0, 1.0]


def test_the_description_is_readable(tmp_path):
    cache = TeacherCache(tmp_path / "kept", {"teacher": "tutor"})
    cache.write(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), {"logits": torch.zeros(1, 1, 1, 1).half()})
    assert json.loads((tmp_path / "kept" / "teacher.json").read_text()) == {"teacher": "tutor"}
