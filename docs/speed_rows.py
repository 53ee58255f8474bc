"""Rows of the tables of speed and choice in the documentation, from the cards of `featherseg bench` and `choose`."""

from functools import partial
from typing import Any

from table_rows import difference, exceeds_noise, mean_and_deviation

from featherseg.bench.complexity import count
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
    rows = [contestant(name) | measured for name, measured in card["figures"]["contestants"].items()]
    return noted(render_table(sorted(rows, key=lambda row: -row["p50_ms"]), SPEED), card)


def contestant(name: str) -> dict[str, Any]:
    """The network of a contestant's name and the way in which it ran."""
    source, _, way = name.rpartition(", ")
    return {"source": source, "way": way}


def noted(table: str, card: dict[str, Any]) -> str:
    """A table, and below it what its card says against its figures."""
    return f"{table}\n\nWhat the card notes: {card['notes']}." if card["notes"] else table


ROOFLINE = [
    Column("network", "source"),
    Column("runtime", "way"),
    Column("network alone, ms", "ms", "{:.1f}"),
    Column("GFLOP a second", "gflops", "{:.0f}"),
    Column("MB moved", lambda row: row["bytes"] / 1e6, "{:.0f}"),
    Column("this machine's bound, ms", "bound_ms", "{:.1f}"),
    Column("of the bound, %", lambda row: 100 * row["share"], "{:.0f}"),
    Column("limit", "limit"),
]


def roofline_table(card: dict[str, Any]) -> str:
    """What each network of one run of `featherseg bench --roofline` reaches of what the machine can do."""
    networks = card["figures"]["roofline"]["networks"]
    rows = [contestant(name) | found["network"] for name, found in networks.items()]
    return render_table(sorted(rows, key=lambda row: -row["ms"]), ROOFLINE)


def peaks_sentence(card: dict[str, Any]) -> str:
    """What the machine can do at all."""
    peaks = card["figures"]["roofline"]["peaks"]
    products = ", ".join(f"{peaks['gflops'][name]:,.0f} in {name}" for name in ("fp32", "bf16", "int8"))
    return f"Matrix products: {products} (GFLOP a second); copies: {peaks['gigabytes']:.1f} GB a second."


PAPER_SPEED = [
    Column("row", "row"),
    Column("model", "model"),
    Column("paper, GTX 1080 Ti", "paper.fps", "{:.1f}"),
    Column("here, network alone", "ours.fps", "{:.1f}"),
    Column("here, image to label map", "ours.fps_end_to_end", "{:.1f}"),
    Column("as FASSD-Net, paper", "paper_ratio", "{:.2f}"),
    Column("as FASSD-Net, here", "our_ratio", "{:.2f}"),
]


def paper_speed_table(card: dict[str, Any]) -> str:
    """Frames a second of a paper's table beside ours, and each as a multiple of FASSD-Net's."""
    rows = card["figures"]["rows"]
    own = next(row for row in rows if row["model"] == "fassd_net")
    ratios = [
        {
            "paper_ratio": row["paper"]["fps"] / own["paper"]["fps"],
            "our_ratio": row["ours"]["fps_end_to_end"] / own["ours"]["fps_end_to_end"],
        }
        for row in rows
    ]
    return noted(render_table([row | ratio for row, ratio in zip(rows, ratios, strict=True)], PAPER_SPEED), card)


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
    return noted(render_table(sorted(rows, key=lambda row: -row["miou"]), CHOICE), card)


LATENCY = [
    Column("table of", "protocol"),
    Column("entries", "figures.entries"),
    Column("seconds for the table", "figures.seconds for the table", "{:.0f}"),
    Column("networks", "figures.networks"),
    Column("measured, ms", lambda card: "{least:.1f} to {greatest:.1f}".format(**card["figures"]["measured, ms"])),
    Column("correlation", "figures.correlation", "{:.2f}"),
    Column("error, median, %", lambda card: card["figures"]["error, percent"]["median"], "{:.1f}"),
    Column("greatest, %", lambda card: card["figures"]["error, percent"]["greatest"], "{:.1f}"),
    Column("mean, with its sign, %", lambda card: card["figures"]["error, percent"]["mean with its sign"], "{:.1f}"),
]


def latency_tables(cards: dict[str, dict[str, Any]]) -> str:
    """Tables of latencies against whole networks, a row a runtime."""
    return render_table(
        [card for name, card in sorted(cards.items()) if name.startswith("benchmarks/latency_table")], LATENCY
    )


def found_parameters(row: dict[str, Any]) -> int:
    """Of a row of a card of runs/camvid_search.py, where ``architecture`` is the found network's."""
    given = {"architecture": row["architecture"]} if row["network"] == FOUND else {}
    return count("fasterseg" if given else row["network"], (360, 480), 11, **given).parameters_deployed


FOUND = "found"
SEARCHED = [
    Column("network", "network"),
    Column("parameters deployed", found_parameters, "{:,}"),
    Column("image to label map, p50, ms", "p50_ms", "{:.2f}"),
    Column("of the found network's", "times", "{:.2f}"),
    Column("mIoU on val", partial(mean_and_deviation, score="miou")),
    Column("difference, 95 % interval", partial(difference, score="miou")),
    Column("exceeds the noise", partial(exceeds_noise, score="miou")),
]


def searched_table(card: dict[str, Any]) -> str:
    """What a search found beside networks made by hand under the same training, the quickest first."""
    own = card["figures"][FOUND]["p50_ms"]
    rows = [
        {"network": network, "architecture": card["architecture"], "times": row["p50_ms"] / own, **row}
        for network, row in card["figures"].items()
    ]
    return render_table(sorted(rows, key=lambda row: row["p50_ms"]), SEARCHED)


AFFINITY = [
    Column("crop", "crop"),
    Column("form", "form"),
    Column("forward and backward, ms", "ms", "{:.0f}"),
    Column("peak, MiB", "peak", "{:.0f}"),
    Column("of the literal form's time, %", "time_share", "{:.0f}"),
    Column("of its peak, %", "peak_share", "{:.1f}"),
    Column("loss", "loss", "{:.4f}"),
]


def affinity_table(cards: dict[str, dict[str, Any]]) -> str:
    """The feature affinity by whole matrices, in blocks and pooled."""
    rows = []
    for crop, name in (("256x512", "affinity"), ("512x1024", "affinity_large")):
        figures = cards[f"benchmarks/{name}"]["figures"]
        whole = figures.get("literal, ms"), figures.get("literal, peak MiB")
        for form in ("literal", "blocks", "pooled"):
            if f"{form}, ms" not in figures:
                continue
            taken, peak = figures[f"{form}, ms"]["median"], figures[f"{form}, peak MiB"]["median"]
            row = {"crop": crop, "form": form, "ms": taken, "peak": peak, "loss": figures[f"{form}, loss"]}
            if all(whole):
                row |= {"time_share": 100 * taken / whole[0]["median"], "peak_share": 100 * peak / whole[1]["median"]}
            rows.append(row)
    return render_table(rows, AFFINITY)
