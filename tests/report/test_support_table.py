"""The export support table from cards of several shapes."""

import pytest

from featherseg.errors import FeathersegError
from featherseg.report.html import Cell, Table, Text
from featherseg.report.support_table import Entry, read_support, support_blocks

REFUSED = {"status": "refused", "reason": "has no operator for it"}
SHAPES = {
    "by network": {"a": {"onnx": "exact", "litert": REFUSED}, "b": {"onnx": True}},
    "with the day of the trial": {
        "a": {"onnx": {"status": "exact", "tried": "2026-05-06"}, "litert": REFUSED | {"tried": "2026-05-06"}},
        "b": {"onnx": {"status": "yes", "tried": "2026-05-07"}},
    },
    "by runtime": {"onnx": {"a": "exact", "b": True}, "litert": {"a": REFUSED}},
    "one level deeper": {"networks": {"a": {"onnx": "exact", "litert": REFUSED}, "b": {"onnx": True}}, "count": 2},
    "rows": {
        "rows": [
            {"network": "a", "runtime": "onnx", "status": "exact"},
            {"network": "a", "runtime": "litert", **REFUSED},
            {"network": "b", "runtime": "onnx", "status": True},
        ]
    },
}


@pytest.mark.parametrize("figures", SHAPES.values(), ids=SHAPES)
def test_every_shape_tells_the_same(made, figures):
    assert set(read_support(made("support", figures))) == {
        Entry("a", "onnx", "exact", None),
        Entry("a", "litert", "refused", "has no operator for it"),
        Entry("b", "onnx", "yes", None),
    }


def test_pairs_stand_in_a_table_and_reasons_below(made):
    file = made("support", SHAPES["by network"])
    pairs, reasons = (block for block in support_blocks([(file, read_support(file))]) if isinstance(block, Table))
    assert list(pairs.head) == ["network", "onnx", "litert"]
    assert [list(row) for row in pairs.rows] == [
        ["a", Cell("exact", mood="good"), Cell("refused", mood="bad")],
        ["b", Cell("yes", mood="good"), None],
    ]
    assert [list(row) for row in reasons.rows] == [["litert", "a", "has no operator for it"]]


def test_a_word_that_says_neither_yes_nor_no_has_no_colour(made):
    file = made("support", {"a": {"tensorrt": "not run here"}})
    table = next(block for block in support_blocks([(file, read_support(file))]) if isinstance(block, Table))
    assert table.rows[0][1] == Cell("not run here")


def test_without_a_card_a_sentence_says_so():
    (block,) = support_blocks([])
    assert isinstance(block, Text)
    assert "No card of kind `support`" in block.text


@pytest.mark.parametrize("figures", [{}, {"a": 3}, {"rows": []}, {"rows": [{"network": "a"}]}, {"a": {"onnx": 3}}])
def test_a_card_that_tells_of_no_pair_is_refused(made, figures):
    with pytest.raises(FeathersegError, match="no network and runtime"):
        read_support(made("support", figures))
