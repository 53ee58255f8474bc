"""The picture of a choice: accuracy over time, the front, the wanted time, and the one to take."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featherseg.report.plots import ACCENT, FAINT, INK, SECOND, _figure, _plain, _png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BESIDE, _ABOVE = (4, 5), 10
"""Where a name stands from its point, in points of type: beside it, and how high where it reaches across it."""


def choice_plot(report: Mapping[str, Any]) -> bytes:
    """The candidates of a report of ``featherseg choose``, as PNG; those of unknown accuracy stand on the lowest line.

    Args:
        report: as :func:`featherseg.bench.choose.choose` gives it.
    """
    return _png(choice_figure(report))


def choice_figure(report: Mapping[str, Any]) -> "Figure":
    """:func:`choice_plot` before it is drawn."""
    from matplotlib.ticker import LogFormatter

    figure = _figure(8.0, 5.0)
    axes = figure.add_subplot()
    rows: Mapping[str, Mapping[str, Any]] = report["candidates"]
    known = {name: row for name, row in rows.items() if row["miou"] is not None}
    unknown = [row["p90_ms"] for row in rows.values() if row["miou"] is None]
    scores = [row["miou"] for row in known.values()] or [0.0]
    low, high = min(scores), max(scores)
    room = 0.12 * (high - low) or 1.0
    behind = [row for name, row in known.items() if name not in report["front"]]
    axes.scatter([row["p90_ms"] for row in behind], [row["miou"] for row in behind], color=FAINT, label="dominated")
    if unknown:
        axes.scatter(unknown, [low - room] * len(unknown), marker="x", color=INK, label="accuracy unknown")
    front = [known[name] for name in report["front"]]
    if front:
        times, heights = [row["p90_ms"] for row in front], [row["miou"] for row in front]
        axes.step(times, heights, where="post", color=ACCENT, linewidth=1.2)
        axes.scatter(times, heights, color=ACCENT, label="front", zorder=3)
    names = []
    for name in report["front"]:
        place = (known[name]["p90_ms"], known[name]["miou"])
        style = {"textcoords": "offset points", "fontsize": 7, "color": INK}
        names.append(axes.annotate(_plain(name), place, xytext=_BESIDE, **style))
        names[-1].set_in_layout(False)  # or the axes would become narrower for it
    taken = report["recommended"]
    if taken is not None:
        place = known[taken]
        axes.plot([place["p90_ms"]], [place["miou"]], "*", color=SECOND, markersize=16, zorder=4, label="to take")
    axes.axvline(report["wanted_ms"], color=SECOND, linestyle="--", linewidth=1.2, label=f"{report['fps']:g} fps")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.set_ylim(low - 2 * room, high + 2 * room)
    axes.set_xlabel(f"{report['rule']}, ms from image to label map at {'x'.join(map(str, report['size']))}")
    axes.set_ylabel("mIoU, %" if report["protocol"] is None else f"mIoU, %  ({_plain(report['protocol'])})")
    axes.grid(color="#e6e6e6", which="both", linewidth=0.5)
    axes.legend(loc="lower right", fontsize=8)
    _keep_inside(figure, names)
    return figure


def _keep_inside(figure: "Figure", names: Iterable[Any]) -> None:
    """Move names that reach beyond the right edge of the axes to the left, above their points."""
    figure.draw_without_rendering()
    edges = figure.axes[0].get_window_extent()
    for name in names:
        box = name.get_window_extent()
        beyond = min(box.x1 - edges.x1, box.x0 - edges.x0)
        if beyond > 0:
            name.xyann = (_BESIDE[0] - beyond * 72 / figure.dpi, _ABOVE)
