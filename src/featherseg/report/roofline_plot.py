"""The picture of a roofline: what the machine can do, and where networks and their layers lie under it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from featherseg.report.plots import ACCENT, FAINT, INK, SECOND, _figure, _plain, _png

ROOFS = {"fp32": INK, "bf16": ACCENT, "int8": SECOND}


def roofline_plot(roofline: Mapping[str, Any], name: str) -> bytes:
    """One network's layers and the whole of it, under the roofs of the precisions it computes in, as PNG.

    Args:
        roofline: ``{"peaks", "networks"}`` of a speed report.
        name: of the contestant.
    """
    peaks, network = roofline["peaks"], roofline["networks"][name]
    layers = [layer for layer in network["layers"] if layer["macs"] and layer["gflops"]]
    used = {layer["precision"] for layer in layers} | {"fp32"}
    figure = _figure(8.0, 5.0)
    axes = figure.add_subplot()
    intensities = [layer["intensity"] for layer in layers] + [network["network"]["intensity"] or 1.0, 1.0]
    ends = np.geomspace(min(intensities) / 2, max(intensities) * 4, 200)
    for precision, colour in ROOFS.items():
        peak = peaks["gflops"].get(precision)
        if peak and precision in used:
            roof = np.minimum(peak, ends * peaks["gigabytes"])
            axes.plot(ends, roof, color=colour, linewidth=1.6, label=f"{precision}: {peak:,.0f} GFLOP/s")
    if layers:
        longest = max(layer["milliseconds"] for layer in layers)
        axes.scatter(
            [layer["intensity"] for layer in layers],
            [layer["gflops"] for layer in layers],
            s=[10 + 190 * layer["milliseconds"] / longest for layer in layers],
            c=[ROOFS.get(layer["precision"], FAINT) for layer in layers],
            alpha=0.45,
            linewidths=0,
            label="layers, by their time",
        )
    whole = network["network"]
    if whole["gflops"]:
        axes.plot([whole["intensity"]], [whole["gflops"]], "*", color=INK, markersize=15, label="the network")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(
        f"{_plain(name)}; copy {peaks['gigabytes']:.1f} GB/s, {peaks['threads']} threads", fontsize=10, color=INK
    )
    axes.grid(color="#e6e6e6", which="both", linewidth=0.5)
    axes.legend(loc="lower right", fontsize=8)
    return _png(figure)
