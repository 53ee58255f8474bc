"""Documentation tables: what a cell holds, and that a document is changed between its marks alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.errors import FeathersegError
from featherseg.report.tables import Column, marked_block, render_table, update_marked_block

CARDS = [
    {"model": "fassd_net", "figures": {"miou": 64.256, "gone": None}, "paper": {"miou": 69.3}},
    {"model": "a|b\nc", "figures": {"miou": 58.0}, "paper": None},
]
COLUMNS = [
    Column("network", "model"),
    Column("mIoU, %", "figures.miou", "{:.1f}"),
    Column("paper", "paper.miou", "{:.1f}"),
    Column("gap", lambda card: card["paper"] and card["figures"]["miou"] - card["paper"]["miou"], "{:+.1f}"),
]
DOCUMENT = "# Title\n\n<!-- table:main -->\nold\n<!-- /table:main -->\n\ntail\n"


def test_a_table_has_a_row_a_card_and_a_dash_for_what_is_missing():
    assert render_table(CARDS, COLUMNS).splitlines() == [
        "| network | mIoU, % | paper | gap |",
        "| --- | ---: | ---: | ---: |",
        "| fassd_net | 64.3 | 69.3 | -5.0 |",
        "| a\\|b c | 58.0 | – | – |",
    ]


def test_a_value_that_does_not_fit_its_format_is_refused_with_the_column():
    with pytest.raises(FeathersegError, match=r"'network'.*'fassd_net'"):
        render_table(CARDS, [Column("network", "model", "{:.1f}")])


def test_only_what_lies_between_the_marks_changes():
    updated = update_marked_block(DOCUMENT, "main", "| a |")
    assert updated == "# Title\n\n<!-- table:main -->\n| a |\n<!-- /table:main -->\n\ntail\n"
    assert marked_block(updated, "main") == "| a |"


lines = st.text(st.characters(codec="ascii", exclude_characters="<\r\n\v\f\x1c\x1d\x1e"), max_size=12)


@given(st.lists(lines, max_size=4).map("\n".join), lines, lines)
def test_replacing_twice_is_replacing_once(table, before, after):
    document = f"{before}<!-- table:t -->\nx\n<!-- /table:t -->{after}"
    once = update_marked_block(document, "t", table)
    assert update_marked_block(once, "t", table) == once
    assert once.startswith(before + "<!-- table:t -->\n")
    assert once.endswith("\n<!-- /table:t -->" + after)
    assert marked_block(once, "t") == table.strip("\n")


def test_line_ends_of_the_document_are_kept():
    updated = update_marked_block(DOCUMENT.replace("\n", "\r\n"), "main", "| a |\n| b |")
    assert "\n" not in updated.replace("\r\n", "")
    assert marked_block(updated, "main") == "| a |\n| b |"


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "<!-- table:main -->",
        "<!-- /table:main --><!-- table:main -->",
        DOCUMENT + DOCUMENT,
    ],
)
def test_a_document_without_one_pair_of_marks_is_refused(text):
    with pytest.raises(FeathersegError, match="table:main"):
        update_marked_block(text, "main", "| a |")
