"""The tables of the documentation, made from result cards.

Choices worth knowing:

- A document marks where a table stands (``<!-- table:NAME -->`` to ``<!-- /table:NAME -->``); only what lies between is
  replaced, and replacing twice changes nothing, so a test can hold documents and cards together.
- A figure that a card does not have is a dash, never a guess or a zero.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from featherseg.errors import FeathersegError

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column: its title, where in a card its value lies, and how it is written.

    ``value`` is the keys joined by dots (``"figures.miou"``) or a function of the card; ``form`` is a format of
    ``str.format`` that takes the value (``"{:.1f}"``).
    """

    title: str
    value: str | Callable[[Mapping[str, Any]], Any]
    form: str = "{}"


def render_table(cards: Iterable[Mapping[str, Any]], columns: Iterable[Column]) -> str:
    """A Markdown table, one row a card in the given order. Columns of numbers are set to the right.

    Raises:
        FeathersegError: a value does not fit its column's format.
    """
    cards, columns = list(cards), list(columns)
    values = [[_value(card, column) for column in columns] for card in cards]
    numeric = [
        any(isinstance(row[i], int | float) for row in values)
        and all(row[i] is None or isinstance(row[i], int | float) for row in values)
        for i in range(len(columns))
    ]
    lines = [
        [_cell(column.title) for column in columns],
        ["---:" if number else "---" for number in numeric],
        *([_written(value, column) for value, column in zip(row, columns, strict=True)] for row in values),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def update_marked_block(text: str, name: str, table: str) -> str:
    """Put ``table`` between the marks of ``name``; everything else in ``text`` stays as it is.

    Raises:
        FeathersegError: the text has no such pair of marks, more than one, or the end before the beginning.
    """
    begin, end = _marks(text, name)
    newline = "\r\n" if "\r\n" in text else "\n"
    body = newline.join(table.strip("\n").splitlines())
    return f"{text[:begin]}{newline}{body}{newline}{text[end:]}"


def marked_block(text: str, name: str) -> str:
    """What stands between the marks of ``name``, without the line breaks around it. Raises as update_marked_block."""
    begin, end = _marks(text, name)
    return "\n".join(text[begin:end].strip("\r\n").splitlines())


def _marks(text: str, name: str) -> tuple[int, int]:
    """Where the block of ``name`` begins (after its opening mark) and ends (before its closing one)."""
    opening, closing = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    begins = [found.end() for found in re.finditer(re.escape(opening), text)]
    ends = [found.start() for found in re.finditer(re.escape(closing), text)]
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise FeathersegError(
            f"the text needs {opening} once, followed by {closing} once; "
            f"it has {len(begins)} and {len(ends)}. Mend the marks in the document."
        )
    return begins[0], ends[0]


def _value(card: Mapping[str, Any], column: Column) -> Any:
    if callable(column.value):
        found: Any = column.value(card)
    else:
        found = card
        for key in column.value.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
    return None if isinstance(found, float) and math.isnan(found) else found


def _written(value: Any, column: Column) -> str:
    if value is None:
        return MISSING
    try:
        return _cell(column.form.format(value))
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise FeathersegError(
            f"column {column.title!r}: {value!r} does not fit the format {column.form!r}. Mend the column or the card."
        ) from error


def _cell(text: str) -> str:
    """``text`` where Markdown will not end the cell: bars escaped, line breaks as blanks."""
    return " ".join(text.replace("|", "\\|").split())
