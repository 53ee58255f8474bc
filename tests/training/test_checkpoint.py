"""Checkpoint files: whole or not there, the one before kept, and read back to the bit."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from featherseg.errors import FeathersegError
from featherseg.training import checkpoint as module
from featherseg.training.checkpoint import NAME, PREVIOUS, Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint


def make(step: int) -> Checkpoint:
    random = torch.Generator().manual_seed(step)
    tensors = {
        "model/a.weight": torch.randn(3, 2, 2, 2, generator=random).to(memory_format=torch.channels_last),
        "model/count": torch.tensor(step),
        "optimizer/a.weight/step": torch.tensor(float(step)),
        "ema/a.weight": torch.randn(3, 2, 2, 2, generator=random).bfloat16(),
    }
    return Checkpoint(
        step, tensors, {"name": "x", "lr": 0.1}, {"step": 1, "score": 2.5}, {"scale": 8.0}, 1.25, {"k": [1]}
    )


def same(one: Checkpoint, other: Checkpoint) -> bool:
    tensors = one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(one.tensors[k], other.tensors[k]) and one.tensors[k].dtype == other.tensors[k].dtype
        for k in one.tensors
    )
    fields = ("step", "recipe", "best", "scaler", "seconds", "extra")
    return tensors and all(getattr(one, f) == getattr(other, f) for f in fields)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make(3))
    assert same(load_checkpoint(tmp_path), make(3))


def test_a_group_is_what_lies_below_its_prefix() -> None:
    assert set(make(1).group("optimizer")) == {"a.weight/step"}
    assert set(make(1).group("model")) == {"a.weight", "count"}


def test_the_one_before_is_kept_and_no_other(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, make(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NAME, PREVIOUS])
    (tmp_path / NAME).unlink()
    assert same(load_checkpoint(tmp_path), make(2))


def spoil_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def spoil_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def spoil_by_zeros(path: Path) -> None:
    path.write_bytes(b"\0" * 500)


@pytest.mark.parametrize("spoil", [spoil_by_cutting, spoil_by_emptying, spoil_by_zeros])
def test_a_spoilt_file_gives_way_to_the_one_before_and_never_takes_its_place(spoil: Any, tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, make(step))
    spoil(tmp_path / NAME)
    assert load_checkpoint(tmp_path).step == 1
    save_checkpoint(tmp_path, make(3))
    (tmp_path / NAME).unlink()
    assert load_checkpoint(tmp_path).step == 1


def test_two_spoilt_files_give_one_message(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, make(step))
    spoil_by_cutting(tmp_path / NAME)
    spoil_by_emptying(tmp_path / PREVIOUS)
    with pytest.raises(FeathersegError, match=r"no checkpoint can be read.*Start again"):
        load_checkpoint(tmp_path)


def test_a_folder_without_checkpoints_says_so(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    with pytest.raises(FeathersegError, match="no checkpoint to resume from"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_no_space_left_while_saving_keeps_the_last_checkpoint(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, make(step))
    real = getattr(os, call)

    def full(*arguments: Any, **named: Any) -> Any:
        if call == "replace" and not str(arguments[0]).endswith(".tmp"):
            return real(*arguments, **named)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(FeathersegError, match=r"no space left.*previous file is intact"):
        save_checkpoint(tmp_path, make(3))
    monkeypatch.undo()
    assert same(load_checkpoint(tmp_path), make(2))
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", refuse)
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, make(step))
    assert load_checkpoint(tmp_path).step == 3
    (tmp_path / NAME).unlink()
    assert load_checkpoint(tmp_path).step == 2
