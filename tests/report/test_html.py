"""The page builder: what it escapes, and that it asks nothing of the network."""

import base64
from html.parser import HTMLParser

import numpy as np
import pytest

from featherseg.report.html import Cell, Code, Heading, Picture, Row, Section, Table, Text, page
from featherseg.report.plots import image_png
from featherseg.report.scatter import Scatter, Series

ATTACK = "<script>alert('x')</script>\"><img src=http://example.org/x onerror=alert(1)>"
PNG = image_png(np.zeros((2, 3, 3), np.uint8))


class Reader(HTMLParser):
    """Collects tags with attributes and the visible text, and checks that every tag is closed in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def hostile_page() -> str:
    blocks = [Text(ATTACK), Code(ATTACK), Table([ATTACK], [[ATTACK], [1.5], [None]]), Picture(PNG, ATTACK, width=300)]
    return page(ATTACK, [Section(ATTACK, blocks)])


def hostile_drawing() -> str:
    plot = Scatter([Series(ATTACK, 0, 0, [(1.0, 2.0, ATTACK)], names=True)], ATTACK, ATTACK, ATTACK, front=True)
    blocks = [plot, Heading(ATTACK), Row([Picture(PNG, ATTACK)]), Table([""], [[Cell(ATTACK, share=0.5)]])]
    return page("a", [Section("b", blocks)])


def test_markup_in_any_text_is_shown_and_never_becomes_a_tag():
    read = Reader(hostile_page())
    assert not [tag for tag, _ in read.tags if tag == "script"]
    assert len([tag for tag, _ in read.tags if tag == "img"]) == 1
    assert read.text.count(ATTACK) == 8
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)


def test_markup_in_a_drawing_never_becomes_a_tag():
    read = Reader(hostile_drawing())
    assert not [tag for tag, _ in read.tags if tag in {"script", "foreignobject", "use", "image"}]
    assert len([tag for tag, _ in read.tags if tag == "img"]) == 1
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert read.open == []


def test_a_photograph_is_embedded_as_what_it_is():
    jpeg = b"\xff\xd8\xff\xe0 and so on"
    assert f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" in page(
        "a", [Section("b", [Picture(jpeg, "c")])]
    )


def test_a_shaded_cell_is_darker_the_higher_its_share():
    text = page(
        "a", [Section("b", [Table(["x"], [[Cell("7", share=0.0)], [Cell("8", share=1.0)], [Cell("9", share=7.0)]])])]
    )
    assert [text.split("--share:")[number].split("%")[0] for number in (-3, -2, -1)] == ["0", "45", "45"]


@pytest.mark.parametrize("made", [hostile_page, hostile_drawing])
def test_nothing_is_fetched_from_outside(made):
    for tag, attributes in Reader(made()).tags:
        assert tag not in {"link", "script", "iframe", "base"}
        for name in ("src", "href", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:")
    style = page("a", []).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_every_tag_is_closed_in_order():
    assert Reader(hostile_page()).open == []


def test_a_picture_is_embedded_whole_with_its_caption_for_all_readers():
    image = next(attributes for tag, attributes in Reader(hostile_page()).tags if tag == "img")
    source = image["src"]
    assert source is not None
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PNG
    assert image["alt"] == ATTACK
    assert image["width"] == "300"


def test_a_picture_that_is_neither_png_nor_jpeg_is_refused():
    with pytest.raises(ValueError, match=r"curve.*neither PNG nor JPEG"):
        page("a", [Section("b", [Picture(b"<svg/>", "curve")])])


def test_columns_of_numbers_are_set_to_the_right_and_none_is_a_dash():
    text = page("a", [Section("b", [Table(["name", "value"], [["x", 1.5], ["y", None]])])])
    assert '<td class="number">1.5</td>' in text
    assert '<td class="number">–</td>' in text
    assert "<td>x</td>" in text
