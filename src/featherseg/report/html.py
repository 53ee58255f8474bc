"""One self-contained HTML page from plain values.

Choices worth knowing:

- Callers hand over values (texts, tables, pictures), never markup: everything is escaped here, in one place, so a class
  name or a path cannot become a tag.
- Pictures are embedded and the style is inline: the page is one file that opens offline, can be mailed, and asks
  nothing of the network. Its content policy says so to the browser.
- Light or dark as the reader's system asks; pictures keep a white ground.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #59636e; --ground: #f6f8fa; --card: #fff; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --ground: #0d1117; --card: #161b22; --line: #30363d; }
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
"""


@dataclass(frozen=True)
class Text:
    """A paragraph; line breaks are kept."""

    text: str


@dataclass(frozen=True)
class Code:
    """What a person types or a program printed."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells below a head. Numbers are set to the right; None is a dash."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption, which also serves readers who cannot see it."""

    png: bytes
    caption: str
    width: int | None = None


Block = Text | Code | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: str
    blocks: Sequence[Block]


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole page as one text. Raises ValueError for a picture that is no PNG."""
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
        case Picture(png, caption, width):
            if not png.startswith(b"\x89PNG\r\n\x1a\n"):
                raise ValueError(f"the picture {caption!r} is no PNG")
            size = f' width="{int(width)}"' if width is not None else ""
            source = base64.b64encode(png).decode()
            words = html.escape(caption)
            return (
                f'<figure><img src="data:image/png;base64,{source}" alt="{words}"{size}>'
                f"<figcaption>{words}</figcaption></figure>"
            )


def _table(head: Sequence[str], rows: Sequence[Sequence[str | int | float | None]]) -> str:
    numeric = [
        any(isinstance(row[column], int | float) for row in rows if column < len(row)) for column in range(len(head))
    ]

    def cell(tag: str, column: int, value: str | int | float | None) -> str:
        shown = "–" if value is None else str(value)
        mark = ' class="number"' if column < len(numeric) and numeric[column] else ""
        return f"<{tag}{mark}>{html.escape(shown)}</{tag}>"

    lines = ["<table><tr>" + "".join(cell("th", i, name) for i, name in enumerate(head)) + "</tr>"]
    lines.extend("<tr>" + "".join(cell("td", i, value) for i, value in enumerate(row)) + "</tr>" for row in rows)
    return "\n".join(lines) + "</table>"
