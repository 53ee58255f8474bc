"""The index of a COCO JSON is made once, kept where the user says, and never trusted when it is damaged."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_miniature import annotation, content, make_coco, write_json

from featherseg.data import coco_cache
from featherseg.data.coco import Coco, json_path
from featherseg.data.coco_index import CocoIndex, build_index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    value = content(3)
    value["annotations"].append(annotation(77, 1, 1, []))
    return make_coco(tmp_path / "coco", value)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The JSONs that indices were made of."""
    calls: list[Path] = []

    def counted(path: Path, *arguments: Any, **named: Any) -> CocoIndex:
        calls.append(path)
        return build_index(path, *arguments, **named)

    monkeypatch.setattr(coco_cache, "build_index", counted)
    return calls


def test_a_kept_index_is_the_one_that_was_made(root: Path, tmp_path: Path, made: list[Path]):
    first, second = (Coco(root, "train", cache=tmp_path / "kept")._index for _ in range(2))
    assert len(made) == 1
    for field in fields(CocoIndex):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other, field.name
    assert first.oddities


def test_another_json_or_choice_has_an_index_of_its_own(root: Path, tmp_path: Path, made: list[Path]):
    def length(**choice: Any) -> int:
        return len(Coco(root, "train", cache=tmp_path / "kept", **choice))

    assert [length(), length(classes=("person",), min_pixels=0), length(min_pixels=999)] == [3, 3, 3]
    assert len(made) == 3
    write_json(root, content(2))
    assert [length(), length()] == [2, 2]
    assert len(made) == 4


@pytest.mark.parametrize("content", [b"", b"{}\n", b"no json\n", None])
def test_a_damaged_index_is_made_again(root: Path, tmp_path: Path, made: list[Path], content: bytes | None):
    before = Coco(root, "train", cache=tmp_path / "kept").fingerprint()
    (place,) = (tmp_path / "kept").iterdir()
    place.write_bytes(place.read_bytes()[:-5] if content is None else content)
    assert Coco(root, "train", cache=tmp_path / "kept").fingerprint() == before
    assert len(made) == 2
    Coco(root, "train", cache=tmp_path / "kept")
    assert len(made) == 2


def test_a_folder_that_cannot_be_written_costs_time_alone(root: Path, tmp_path: Path, made: list[Path]):
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        assert len(Coco(root, "train", cache=tmp_path / "file" / "kept")) == 3
    assert len(made) == 2


def test_a_large_json_is_kept_in_the_users_cache_folder(
    root: Path, tmp_path: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(coco_cache, "KEPT_FROM", json_path(root, "train").stat().st_size)
    monkeypatch.setenv(coco_cache.CACHE_VARIABLE, str(tmp_path / "mine"))
    before = sorted(root.rglob("*"))
    for _ in range(2):
        assert len(Coco(root, "train")) == 3
    assert len(made) == 1
    assert len(list((tmp_path / "mine").iterdir())) == 1
    assert sorted(root.rglob("*")) == before


def test_the_cache_folder_follows_the_systems_habit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(coco_cache.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert coco_cache.cache_folder() == tmp_path / "featherseg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert coco_cache.cache_folder() == tmp_path / ".cache/featherseg"


def test_a_small_json_leaves_nothing_behind(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(coco_cache.CACHE_VARIABLE, str(tmp_path / "mine"))
    Coco(root, "train")
    assert not (tmp_path / "mine").exists()


def test_progress_runs_to_the_end(root: Path):
    seen: list[int] = []
    build_index(json_path(root, "train"), ("car",), 1000, advance=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] <= 100
    assert seen[0] <= 50 <= seen[-1]
