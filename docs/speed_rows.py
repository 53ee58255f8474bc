"""Rows of the tables of speed and choice in the documentation, from the cards of `featherseg bench` and `choose`."""

from typing import Any

from featherseg.report.tables import Column, render_table

SPEED = [
    Column("network", "source"),
    Column("runtime", "way"),
    Column("p50, ms", "p50_ms", "{:.1f}"),
    Column("p90, ms", "p90_ms", "{:.1f}"),
    Column("frames a second", "fps", "{:.1f}"),
    Column("times as fast as plain PyTorch", "times_as_fast", "{:.1f}"),
    Column("as channels_last", "times_as_fast_as_channels_last", "{:.1f}"),
    Column("outside the network, %", "outside_percent", "{:.1f}"),
    Column("pixels as plain PyTorch, %", "equal_percent", "{:.2f}"),
    Column("memory of its own, MiB", "own_mib", "{:.0f}"),
]


def speed_table(card: dict[str, Any]) -> str:
    """Every contestant of one run of `featherseg bench`, the slowest first."""
    rows = []
    for name, measured in card["figures"]["contestants"].items():
        source, _, way = name.rpartition(", ")
        rows.append({"source": source, "way": way, **measured})
    return render_table(sorted(rows, key=lambda row: -row["p50_ms"]), SPEED)


CHOICE = [
    Column("network", "source"),
    Column("runtime", lambda row: f"{row['runtime']} {row['precision']}"),
    Column("scale", "scale", "{:g}"),
    Column("mIoU on val, %", "miou", "{:.1f}"),
    Column("p50, ms", "p50_ms", "{:.1f}"),
    Column("p90, ms", "p90_ms", "{:.1f}"),
    Column("", "taken"),
]


def choice_table(card: dict[str, Any]) -> str:
    """The Pareto front of one run of `featherseg choose`, the most accurate first."""
    figures = card["figures"]
    rows = [figures["candidates"][name] | {"taken": name == figures["recommended"]} for name in figures["front"]]
    for row in rows:
        row["taken"] = "taken" if row["taken"] else None
    return render_table(sorted(rows, key=lambda row: -row["miou"]), CHOICE)
