"""A large JSON is read item by item: the same items as Python's reader gives, each at its bytes, faults at theirs."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featherseg.data import json_stream
from featherseg.data.headers import SpoiltFile
from featherseg.data.json_stream import list_items

KEYS = frozenset({"a", "b"})

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lists=st.fixed_dictionaries({"a": st.lists(values, max_size=6), "b": st.lists(values, max_size=6)}),
    others=st.dictionaries(st.text(max_size=4).filter(lambda name: name not in KEYS), values, max_size=3),
    chunk=st.integers(1, 50),
    indent=st.sampled_from([None, 1, 3]),
    escaped=st.booleans(),
)
def test_items_are_those_of_pythons_reader_at_the_bytes_they_occupy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: dict, others: dict, chunk: int, indent: Any, escaped: bool
):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    content = json.dumps({**others, **lists}, indent=indent, ensure_ascii=escaped).encode("utf-8", "replace")
    path = tmp_path / "x.json"
    path.write_bytes(content)
    expected = json.loads(content)
    found = list(list_items(path, KEYS))
    for key in KEYS:
        assert [item.value() for item in found if item.key == key] == expected[key]
    assert [json.loads(content[item.start : item.end]) for item in found] == [item.value() for item in found]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_byte_order_mark_is_passed_over(tmp_path: Path):
    path = write(tmp_path / "x.json", b'\xef\xbb\xbf{"a": [7], "b": []}')
    assert [(item.raw, item.start) for item in list_items(path, KEYS)] == [(7, 10)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "byte 0: expected '{', found the end of the file"),
        ("PK\x03\x04", "byte 0: expected '{', found 'P'"),
        ("[1, 2]", "byte 0: expected '{', found '\\['"),
        ('{"a": [1, 2', "byte 11: expected ',' or '\\]', found the end of the file"),
        ('{"a": [1, {"x": 2', "byte"),
        ('{"a": [1, !]', "byte 10: Expecting value"),
        ('{"a": [1, {"x" 2}], "b": []}', "byte 15: Expecting ':' delimiter"),
        ('{"a": {}, "b": []}', "byte 6: 'a' is not a list"),
        ('{"a": 1, "b": []}', "byte 6: 'a' is not a list"),
        ('{"a": [], 3: []}', "expected a name in quotes, found 3"),
        ('{"a": []; "b": []}', "byte 8: expected ',' or '}', found ';'"),
        ('{"a": [], "a": []}', "a second list 'a'"),
        ('{"a": [1], "b": []} tail', "byte 20: more text after the object's end"),
        ('{"a": [' + "[" * 100000 + '], "b": []}', "a value that no annotation holds"),
        ('{"a": [' + "9" * 5000 + '], "b": []}', "a value that no annotation holds"),
        ('{"a": []}', "holds no 'b'"),
        ("{}", "holds no 'a' and no 'b'"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 1 << 22])
def test_garbled_text_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str, chunk: int
):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    with pytest.raises(SpoiltFile, match=words) as caught:
        list(list_items(write(tmp_path / "x.json", text), KEYS))
    assert caught.value.kind == "garbled JSON"
    assert "x.json" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SpoiltFile, match=r"x\.json: no such file"):
        list(list_items(tmp_path / "x.json", KEYS))


def test_progress_ends_with_the_size(tmp_path: Path):
    path = write(tmp_path / "x.json", '{"a": [1, 2], "b": []}')
    seen = []
    list(list_items(path, KEYS, advance=lambda done, size: seen.append((done, size))))
    assert seen[-1] == (22, 22)


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 12)

    def peak(count: int) -> int:
        path = write(tmp_path / f"{count}.json", '{"b": [], "a": [' + ", ".join(['{"x": [1.5, 2.5]}'] * count) + "]}")
        tracemalloc.start()
        assert sum(1 for _ in list_items(path, KEYS)) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(20000) < 1.5 * peak(2000)
