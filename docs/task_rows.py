"""The tables of the pyramid paper's real runs: its classifiers on Caltech-101, and the detectors (make_tables.py).

Cards are told apart by where they lie, as runs/caltech101.sh and runs/detectors.sh put them:
``caltech101/caltech101_NETWORK-seedN``, ``caltech101/paired``, ``detectors/streets_NETWORK-seedN``,
``detectors/kitti_NETWORK-seedN.SPLIT`` and ``detectors/time``.
"""

import re
from statistics import fmean
from typing import Any

from featherseg.report.tables import Column, render_table

Cards = dict[str, dict[str, Any]]


def points(interval: list[float] | None) -> str | None:
    return interval and f"{interval[0]:.1f} to {interval[1]:.1f}"


def difference(row: dict[str, Any]) -> str | None:
    """Of a network to the first that was compared, in points of top-1, with its interval."""
    if "difference" not in row:
        return None
    low, high = row["difference_interval"]
    return f"{row['difference']:+.1f} ({low:+.1f} to {high:+.1f})"


CALTECH = [
    Column("network", "network"),
    Column("protocol", "protocol"),
    Column("trainings", "trainings"),
    Column("top-1, %", "top1", "{:.1f}"),
    Column("95 % interval over images", lambda row: points(row["interval"])),
    Column("mean class accuracy, %", "mean_class_accuracy", "{:.1f}"),
    Column("against the first, points", difference),
    Column("paper, %", "paper", "{:.1f}"),
]


def caltech_rows(cards: Cards) -> list[dict[str, Any]]:
    """One network of one recipe a row, those that were compared first and in that order; means over their seeds.

    The interval is of a single training. The paper's figure stands beside its networks under the common recipe.
    """
    judged: dict[str, list[dict[str, Any]]] = {}
    for name, card in cards.items():
        found = re.fullmatch(r"caltech101/caltech101_(.+)-seed\d+", name)
        if found:
            judged.setdefault(found[1], []).append(card)
    compared = {row["network"]: row for row in cards["caltech101/paired"]["figures"]["networks"]}
    printed = {
        row["model"]: row["paper"]["top1_by_steps"][-1]
        for row in cards["complexity/pyramid_mobilenet"]["figures"]["rows"]
        if row["table"] == "4" and row["row"].endswith("Caltech-101")
    }
    rows = []
    for network in [*compared, *sorted(set(judged) - set(compared))]:
        figures = [card["figures"] for card in judged[network]]
        rows.append(
            {key: value for key, value in compared.get(network, {}).items() if key.startswith("difference")}
            | {
                "network": network,
                "protocol": judged[network][0]["protocol"],
                "trainings": len(figures),
                "top1": fmean(each["top1"] for each in figures),
                "interval": figures[0]["top1_interval"] if len(figures) == 1 else None,
                "mean_class_accuracy": fmean(each["mean_class_accuracy"] for each in figures),
                "paper": printed.get(network),
            }
        )
    return rows


def caltech_table(cards: Cards) -> str:
    """Caltech-101 beside the paper's Table 4."""
    return render_table(caltech_rows(cards), CALTECH)


LEVELS = ("easy", "moderate", "hard")
DETECTORS = [
    Column("network", "network"),
    Column("seed", "seed"),
    Column("judged on", "judged"),
    Column("images", "images", "{:,}"),
    *(
        Column(f"AP{points} {level}", lambda row, kind=f"ap{points}", level=level: row["ap"][kind][level], "{:.1f}")
        for points in (11, 40)
        for level in LEVELS
    ),
    Column("mAP, mean of AP11", "map11", "{:.1f}"),
    Column("ms a frame", "milliseconds", "{:.0f}"),
]


def detector_rows(cards: Cards) -> list[dict[str, Any]]:
    """One judgement of one detector a row: drawn streets, then KITTI's val, then its train, which it learnt."""
    taken = cards["detectors/time"]["figures"]
    rows = []
    for name, card in cards.items():
        found = re.fullmatch(r"detectors/(streets|kitti)_(.+)-seed(\d+)(?:\.(train|val))?", name)
        if not found:
            continue
        data, network, seed, split = found.groups()
        (ap,) = card["figures"]["ap"].values()
        rows.append(
            {
                "network": network,
                "seed": int(seed),
                "judged": f"KITTI {split}" if data == "kitti" else data,
                "images": card["figures"]["images"],
                "ap": ap,
                "map11": card["figures"]["map11"],
                "milliseconds": taken[f"{network}, ms"]["median"],
            }
        )
    order = ("streets", "KITTI val", "KITTI train")
    return sorted(rows, key=lambda row: (order.index(row["judged"]), row["network"], row["seed"]))


def detector_table(cards: Cards) -> str:
    """AP by KITTI's rules and the time of a frame of KITTI's size, of every detector."""
    return render_table(detector_rows(cards), DETECTORS)
