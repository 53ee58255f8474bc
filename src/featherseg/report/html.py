"""One self-contained HTML page from plain values.

Choices worth knowing:

- Callers hand over values (texts, tables, pictures), never markup: everything is escaped here, in one place, so a class
  name or a path cannot become a tag.
- Pictures are embedded and the style is inline: the page is one file that opens offline, can be mailed, and asks
  nothing of the network. Its content policy says so to the browser.
- Light or dark as the reader's system asks; pictures keep a white ground, drawings (scatter.py) follow the page.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

from featherseg.report.scatter import Scatter, marker_svg, scatter_svg

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #59636e; --ground: #f6f8fa; --card: #fff; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --ground: #0d1117; --card: #161b22; --line: #30363d; }
}
:root { --c0: #0b62d6; --c1: #c2410c; --c2: #0f766e; --c3: #9333ea; --c4: #8a6100; --c5: #be185d; }
@media (prefers-color-scheme: dark) {
  :root { --c0: #58a6ff; --c1: #fb923c; --c2: #2dd4bf; --c3: #c084fc; --c4: #facc15; --c5: #f472b6; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; margin: .5rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 0 0 .8rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem;
  margin: 0 0 1.2rem; overflow-x: auto; }
p { margin: .4rem 0; max-width: 46rem; white-space: pre-line; }
figure { margin: .6rem 0 1rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }
th, td { text-align: left; padding: .28rem .9rem .28rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: .88rem; }
td.number { text-align: right; }
th.number { text-align: right; }
pre { background: var(--ground); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem;
  overflow-x: auto; font: .88rem/1.45 ui-monospace, monospace; margin: .4rem 0; }
h3 { font-size: 1rem; margin: 1.3rem 0 .4rem; }
td.code { font: .8rem/1.45 ui-monospace, monospace; min-width: 18rem; overflow-wrap: anywhere; }
td.shade { background: color-mix(in srgb, var(--c0) var(--share), transparent); padding-left: .5rem;
  padding-right: .5rem; text-align: right; }
td.good { color: var(--c2); } td.bad { color: var(--c1); }
svg { display: block; width: 100%; max-width: 50rem; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .name { font-weight: 600; }
svg .grid { stroke: var(--line); fill: none; }
svg .front { stroke: var(--soft); fill: none; stroke-dasharray: 4 3; }
svg .line { fill: none; stroke: currentColor; stroke-width: 2.4; }
svg g, svg.key { fill: currentColor; fill-opacity: .85; }
svg.key { display: inline-block; width: 1rem; height: 1rem; vertical-align: -.15rem; margin-right: .3rem; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .3rem 0;
  font-size: .88rem; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); gap: .6rem; }
.row figure { margin: 0; } .row img { width: 100%; }
"""


DARKEST = 45
"""Percent of a cell's ground that may be coloured, so that its text is read in light and in dark."""


@dataclass(frozen=True)
class Text:
    """A paragraph; line breaks are kept."""

    text: str


@dataclass(frozen=True)
class Code:
    """What a person types or a program printed."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Cell:
    """A cell that is more than its text.

    Attributes:
        text: shown.
        share: of its ground that is coloured, 0 to 1; None for none.
        mood: ``"good"``, ``"bad"`` or ``"code"``; None for none.
    """

    text: str
    share: float | None = None
    mood: str | None = None


Value = str | int | float | Cell | None


@dataclass(frozen=True)
class Table:
    """Rows of cells below a head. Numbers are set to the right; None is a dash."""

    head: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Picture:
    """A PNG or JPEG with its caption, which also serves readers who cannot see it."""

    content: bytes
    caption: str
    width: int | None = None


@dataclass(frozen=True)
class Row:
    """Pictures side by side, as many as the screen has room for."""

    pictures: Sequence[Picture]


Block = Text | Code | Heading | Table | Picture | Row | Scatter


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: str
    blocks: Sequence[Block]


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole page as one text. Raises ValueError for a picture that is neither PNG nor JPEG."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{html.escape(title)}</h1>",
    ]
    for section in sections:
        parts.append(f"<section><h2>{html.escape(section.title)}</h2>")
        parts.extend(_block(block) for block in section.blocks)
        parts.append("</section>")
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table(head, rows):
            return _table(head, rows)
        case Heading(text):
            return f"<h3>{html.escape(text)}</h3>"
        case Picture():
            return _picture(block)
        case Row(pictures):
            return f'<div class="row">{"".join(_picture(picture) for picture in pictures)}</div>'
        case Scatter(series, caption=caption):
            keys = (f"<li>{marker_svg(one.colour, one.marker)}{html.escape(one.name)}</li>" for one in series)
            legend = f'<ul class="legend">{"".join(keys)}</ul>'
            words = html.escape(caption)
            return f"<figure>{scatter_svg(block)}{legend}<figcaption>{words}</figcaption></figure>"


def _picture(picture: Picture) -> str:
    kinds = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
    kind = next((name for begin, name in kinds.items() if picture.content.startswith(begin)), None)
    if kind is None:
        raise ValueError(f"the picture {picture.caption!r} is neither PNG nor JPEG")
    size = f' width="{int(picture.width)}"' if picture.width is not None else ""
    source = base64.b64encode(picture.content).decode()
    words = html.escape(picture.caption)
    return (
        f'<figure><img src="data:image/{kind};base64,{source}" alt="{words}"{size}>'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Value]]) -> str:
    numeric = [
        any(isinstance(row[column], int | float) for row in rows if column < len(row)) for column in range(len(head))
    ]

    def cell(tag: str, column: int, value: Value) -> str:
        if isinstance(value, Cell):
            mark = f' class="{value.mood}"' if value.mood else ""
            if value.share is not None:
                depth = DARKEST * min(max(value.share, 0.0), 1.0)
                mark = f' class="shade" style="--share:{depth:.0f}%"'
            return f"<{tag}{mark}>{html.escape(value.text)}</{tag}>"
        shown = "–" if value is None else str(value)
        mark = ' class="number"' if column < len(numeric) and numeric[column] else ""
        return f"<{tag}{mark}>{html.escape(shown)}</{tag}>"

    lines = ["<table><tr>" + "".join(cell("th", i, name) for i, name in enumerate(head)) + "</tr>"]
    lines.extend("<tr>" + "".join(cell("td", i, value) for i, value in enumerate(row)) + "</tr>" for row in rows)
    return "\n".join(lines) + "</table>"
