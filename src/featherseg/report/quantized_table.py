"""What quantising to int8 lost and won, from the cards of ``featherseg quantize``, a row a card.

A loss is of mIoU, in points, or where nothing was labelled of agreement with float32, in percent of the pixels; the
column says which. Times as fast are the fastest int8 program against the fastest of floats, on one machine in one run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from featherseg.report.card_files import CardFile, mapping, number, text
from featherseg.report.html import Cell, Table, Value

HEAD = (
    *("network", "runtime", "mIoU in float32, %", "in int8, %", "loss", "of", "bound", "met", "layers in float32"),
    *("MB in float32", "in int8", "times as fast", "judged on", "card"),
)


def read_quantized(file: CardFile) -> list[Value]:
    """The row of one card. Raises FeathersegError for other figures."""
    figures = file.card["figures"]
    loss, verdicts, sizes = (mapping(figures, key) for key in ("loss", "verdicts", "size_bytes"))
    judged_on, speed, kept = mapping(figures, "judged_on"), mapping(figures, "speed"), figures.get("kept")
    layers = number(figures, "layers")
    met = loss.get("met") is True
    return [
        text(file.card, "weights"),
        text(figures, "runtime"),
        *(_scaled(mapping(verdicts, name), "miou", 100) for name in ("float32", "int8")),
        _scaled(loss, "value", 1),
        text(loss, "of"),
        _scaled(loss, "bound", 1),
        Cell("yes" if met else "no", mood="good" if met else "bad"),
        f"{len(kept)} of {layers:g}" if isinstance(kept, list) and layers is not None else None,
        *(_scaled(sizes, name, 1e-6) for name in ("float32", "int8")),
        _scaled(speed, "times_as_fast", 1),
        f"{text(judged_on, 'images')}, {number(judged_on, 'count') or 0:g} images",
        file.name,
    ]


def quantized_table(rows: Sequence[Sequence[Value]]) -> Table:
    """The rows of :func:`read_quantized`, by network and runtime."""
    return Table(HEAD, sorted(rows, key=lambda row: (str(row[0]), str(row[1]))))


def _scaled(holder: Mapping[str, Any], key: str, factor: float) -> float | None:
    value = number(holder, key)
    return None if value is None else round(factor * value, 2)
