"""Files that are whole or not there."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from featherseg.errors import FeathersegError
from featherseg.files import atomic_write, check_writable


def test_text_and_bytes_are_written_and_folders_made(tmp_path: Path) -> None:
    path = atomic_write(tmp_path / "a" / "b" / "note.txt", "Straße")
    assert path.read_text(encoding="utf-8") == "Straße"
    assert atomic_write(path, b"\x00\xff").read_bytes() == b"\x00\xff"
    assert [p.name for p in path.parent.iterdir()] == ["note.txt"]


def test_others_may_read_the_file(tmp_path: Path) -> None:
    assert stat.S_IMODE(atomic_write(tmp_path / "x", "").stat().st_mode) == 0o644


@pytest.mark.parametrize("call", ["fdopen", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = atomic_write(tmp_path / "x", "old")
    with monkeypatch.context() as patch:

        def full(*_: Any, **__: Any) -> None:
            raise OSError(number, os.strerror(number))

        patch.setattr(os, call, full)
        with pytest.raises(FeathersegError, match=r"x: could not be written: no space left.*previous file is intact"):
            atomic_write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space or choose another folder."),
        (errno.EDQUOT, "Free some space or choose another folder."),
        (errno.EACCES, "Choose a folder you may write to."),
        (errno.EROFS, "Choose a folder you may write to."),
        (errno.EIO, "Choose another folder."),
    ],
)
def test_the_advice_fits_the_fault(number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(FeathersegError) as caught:
        atomic_write(tmp_path / "x", "new")
    assert str(caught.value).endswith(f". {advice}")


def test_a_folder_in_the_place_of_the_file_gives_a_message(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(FeathersegError, match="could not be written"):
        atomic_write(tmp_path / "x", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_file_in_the_place_of_a_folder_gives_a_message(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(FeathersegError, match="could not be written"):
        atomic_write(tmp_path / "x" / "y", "new")


def test_the_content_reaches_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for call in ("fsync", "replace"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *a, real=real, call=call: (order.append(call), real(*a))[1])
    atomic_write(tmp_path / "x", "new")
    assert order == ["fsync", "replace", "fsync"]


def test_trying_a_folder_leaves_nothing_behind_and_makes_no_folder(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "x")
    check_writable(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FeathersegError, match=r"x: cannot be written: .*Choose another folder\."):
        check_writable(tmp_path / "file" / "x")
