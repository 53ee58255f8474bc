"""Which cards are found among files and folders, and what becomes of files that are none."""

import json

import pytest

from featherseg.errors import FeathersegError
from featherseg.report.card_files import gather_cards


@pytest.fixture
def folder(saved, evaluated):
    return saved(evaluated("a.x", 60.0), evaluated("b.x", 61.0, name="deep/b.json"))


def test_folders_are_read_to_the_bottom_and_named_from_their_own_name(folder):
    assert [one.name for one in gather_cards([folder]).cards] == ["cards/a.x.json", "cards/deep/b.json"]


def test_relative_paths_are_shown_as_they_are_typed(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    found = gather_cards(["cards/deep", "cards/a.x.json"])
    assert [one.name for one in found.cards] == ["cards/deep/b.json", "cards/a.x.json"]
    monkeypatch.chdir(folder)
    assert [one.name for one in gather_cards(["."]).cards] == ["cards/a.x.json", "cards/deep/b.json"]


def test_a_card_that_is_named_twice_counts_once(folder):
    assert len(gather_cards([folder, folder / "a.x.json", folder / "deep"]).cards) == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "this is not JSON"),
        (b"\xff\xfe\x00", "this is not JSON"),
        (b"[1]", "a card is a JSON object"),
        (b'{"a": 1}', "no field"),
        (b'{"format": 99}', "Update featherseg"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_card_is_named_with_its_reason_and_the_others_are_read(folder, content, why):
    (folder / "foreign.json").write_bytes(content)
    found = gather_cards([folder])
    assert len(found.cards) == 2
    assert [one.name for one in found.skipped] == ["cards/foreign.json"]
    assert why in found.skipped[0].reason
    assert str(folder) not in found.skipped[0].reason


def test_a_card_with_a_field_of_another_type_is_left_out(folder):
    card = json.loads((folder / "a.x.json").read_text())
    (folder / "spoilt.json").write_text(json.dumps(card | {"figures": [1]}))
    assert "'figures' must be dict" in gather_cards([folder]).skipped[0].reason


def test_a_path_that_is_not_there_is_refused(folder):
    with pytest.raises(FeathersegError, match=r"b\.json: there is no such file or folder"):
        gather_cards([folder, folder / "b.json"])


def test_no_card_at_all_is_refused_with_what_was_found_instead(tmp_path):
    (tmp_path / "foreign.json").write_text("[]")
    with pytest.raises(
        FeathersegError, match=r"no result cards.*recipe\.yaml.*--card.*foreign\.json: a card is a JSON"
    ):
        gather_cards([tmp_path])
