"""Result cards: what they add by themselves, what they must never hold, and what reading refuses."""

import json
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featherseg import cards
from featherseg.cards import card, load_cards, read_card, shorten_paths, write_card
from featherseg.errors import FeathersegError


def example(**changes):
    arguments = {
        "protocol": "camvid11/480x360/train→test",
        "figures": {"miou": 64.25, "iou": {"sky": 91.0, "pole": float("nan")}},
        "command": "featherseg eval --weights fassd_net.camvid --data /home/x/data/camvid",
        "seeds": [0],
        "data_fingerprint": "abc",
    }
    return card("evaluation", **(arguments | changes))


def test_a_card_is_read_back_as_it_was_made(tmp_path):
    made = example(paper={"miou": 69.3}, notes="one model")
    write_card(tmp_path / "a.json", made)
    assert read_card(tmp_path / "a.json") == made


def test_a_card_says_when_with_what_and_on_which_kind_of_machine():
    made = example()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["date"])
    assert made["machine"]["python"] == platform.python_version()
    assert made["machine"]["numpy"] == np.__version__
    assert made["machine"]["cores"] >= 1
    assert made["machine"]["memory_gib"] > 0
    assert made["version"]


def test_a_card_does_not_name_the_machine_or_its_folders():
    text = json.dumps(example(recipe={"data": {"root": "/srv/data/camvid"}}, weights=Path("/srv/w/a.safetensors")))
    assert f'"{socket.gethostname()}"' not in text
    assert "/srv" not in text
    assert "/home" not in text


@pytest.mark.parametrize(
    ("argument", "short"),
    [
        ("/home/x/data/camvid", "camvid"),
        ("/home/x/data/camvid/", "camvid"),
        ("data.root=/home/x/my data/camvid", "data.root=camvid"),
        ("~/data/camvid", "camvid"),
        ("~x/data/camvid", "camvid"),
        (r"C:\Users\x\camvid", "camvid"),
        ("roots=[/a/b/one,/a/b/two]", "roots=[one,two]"),
        ("runs/camvid/card.json", "runs/camvid/card.json"),
        ("camvid11/480x360/train→test", "camvid11/480x360/train→test"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("lr=1e-3", "lr=1e-3"),
        ("--size", "--size"),
    ],
)
def test_absolute_paths_in_a_command_lose_their_folders(argument, short):
    assert shorten_paths(argument) == short


def test_a_command_given_as_arguments_is_quoted_as_it_would_be_typed():
    made = example(command=["/home/x/.venv/bin/featherseg", "train", "my recipe.yaml", "data=/d/camvid"])
    assert made["command"] == "featherseg train 'my recipe.yaml' data=camvid"


def test_numpy_values_become_plain_numbers_and_nan_becomes_null(tmp_path):
    made = example(figures={"miou": np.float64(64.5), "counts": np.array([[1, 2], [3, 4]]), "none": np.float32("nan")})
    write_card(tmp_path / "a.json", made)
    assert read_card(tmp_path / "a.json")["figures"] == {"miou": 64.5, "counts": [[1, 2], [3, 4]], "none": None}


def test_an_infinite_figure_is_refused():
    with pytest.raises(ValueError, match="infinite"):
        example(figures={"loss": float("inf")})


def test_a_further_field_cannot_replace_a_fixed_one():
    with pytest.raises(ValueError, match="machine"):
        example(machine={})


def test_the_same_card_gives_the_same_bytes_whatever_the_order_of_its_keys(tmp_path):
    made = example()
    first = write_card(tmp_path / "a.json", made).read_bytes()
    second = write_card(tmp_path / "b.json", dict(reversed(made.items()))).read_bytes()
    assert first == second
    assert first.endswith(b"\n")


def in_repository(monkeypatch, root: Path, package: str) -> Path:
    """A committed repository at ``root`` with a package folder; the cards module is made to believe it lives there."""
    folder = root / package
    folder.mkdir(parents=True)
    (folder / "cards.py").write_text("one\n")
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for step in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *step], check=True, capture_output=True)
    monkeypatch.setattr(cards, "__file__", str(folder / "cards.py"))
    return folder


def test_the_commit_is_recorded_and_dirty_once_the_source_changes(monkeypatch, tmp_path):
    folder = in_repository(monkeypatch, tmp_path, "src/featherseg")
    clean = cards.git_commit()
    assert clean is not None
    assert re.fullmatch(r"[0-9a-f]{40}", clean["hash"])
    assert clean["dirty"] is False
    (folder / "new.py").write_text("two\n")
    assert cards.git_commit() == {"hash": clean["hash"], "dirty": True}


def test_a_new_card_beside_the_source_does_not_make_the_commit_dirty(monkeypatch, tmp_path):
    in_repository(monkeypatch, tmp_path, "src/featherseg")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.json").write_text("{}")
    commit = cards.git_commit()
    assert commit is not None
    assert commit["dirty"] is False


def test_installed_inside_another_repository_no_commit_is_recorded(monkeypatch, tmp_path):
    in_repository(monkeypatch, tmp_path, ".venv/lib/site-packages/featherseg")
    assert cards.git_commit() is None


def test_outside_a_repository_no_commit_is_recorded(monkeypatch, tmp_path):
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "src" / "featherseg" / "cards.py"))
    (tmp_path / "src" / "featherseg").mkdir(parents=True)
    assert cards.git_commit() is None


def test_cards_are_loaded_by_their_place_in_the_folder(tmp_path):
    write_card(tmp_path / "b.json", example())
    write_card(tmp_path / "fassd_net" / "a.json", example())
    assert list(load_cards(tmp_path)) == ["b", "fassd_net/a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"figures": None}, "figures.*must be dict"),
        ({"format": True}, "format.*must be int"),
        ({"format": 99}, "Update featherseg"),
        ({"seeds": "0"}, "seeds.*must be list"),
    ],
)
def test_a_spoilt_field_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(example() | change))
    with pytest.raises(FeathersegError, match=message) as refusal:
        read_card(path)
    assert str(path) in str(refusal.value)


def test_a_missing_field_is_refused_by_name_on_reading_and_on_writing(tmp_path):
    made = example()
    del made["protocol"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(made))
    with pytest.raises(FeathersegError, match="no field 'protocol'"):
        read_card(path)
    with pytest.raises(FeathersegError, match="no field 'protocol'"):
        write_card(tmp_path / "b.json", made)
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_a_file_that_is_no_card_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FeathersegError, match=r"a\.json"):
        read_card(path)


def test_a_missing_file_or_folder_is_refused(tmp_path):
    with pytest.raises(FeathersegError, match="cannot be read"):
        read_card(tmp_path / "none.json")
    with pytest.raises(FeathersegError, match="no such folder"):
        load_cards(tmp_path / "none")


def test_importing_cards_imports_nothing_heavy():
    code = "import sys, featherseg.cards; print(sorted({'torch', 'numpy', 'cv2', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
