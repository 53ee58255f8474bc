"""The picture of a choice: accuracy over time, the front, the wanted time, and the one to take."""

from collections.abc import Mapping
from typing import Any

from featherseg.report.plots import ACCENT, FAINT, INK, SECOND, _figure, _plain, _png


def choice_plot(report: Mapping[str, Any]) -> bytes:
    """The candidates of a report of ``featherseg choose``, as PNG; those of unknown accuracy stand on the lowest line.

    Args:
        report: as :func:`featherseg.bench.choose.choose` gives it.
    """
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
    for name in report["front"]:
        place = (known[name]["p90_ms"], known[name]["miou"])
        axes.annotate(_plain(name), place, xytext=(4, 5), textcoords="offset points", fontsize=7, color=INK)
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
    return _png(figure)
