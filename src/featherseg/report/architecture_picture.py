"""A picture of a two-branch architecture: a row a scale, a column a layer, what each cell is and gives.

Fed with an architecture's JSON-ready dictionary. Shared cells are drawn once; zoomed operators have broken outlines.
"""

from collections.abc import Mapping
from typing import Any

from featherseg.report.plots import ACCENT, FAINT, INK, SECOND, _figure, _png

SCALES = (8, 16, 32)
LETTERS = {
    "skip": "skip",
    "conv": "3x3",
    "conv_downup": "zoomed\n3x3",
    "conv_2x": "3x3\n3x3",
    "conv_2x_downup": "zoomed\n3x3 3x3",
}
SHARED = "#e8edf5"


def architecture_picture(content: Mapping[str, Any], title: str = "") -> bytes:
    """PNG of an architecture.

    Args:
        content: as ``Architecture.to_dict`` gives it.
        title: above the picture.
    """
    branches, shared = content["branches"], content["shared_layers"]
    columns = max(len(branch["layers"]) for branch in branches)
    figure = _figure(2.2 + 0.95 * columns, 5.4)
    axes = figure.add_subplot()
    colours = (ACCENT, SECOND)
    for index, branch in enumerate(branches):
        shift = 0.0 if len(branches) == 1 else (0.2, -0.2)[index]
        scale, before = 8, None
        for number, layer in enumerate(branch["layers"]):
            scale *= layer["stride"]
            own = number >= shared
            at = (number, -SCALES.index(scale) + (shift if own else 0.0))
            if own or index == 0:
                _cell(axes, at, layer, colours[index] if own else INK, own)
                if before is not None:
                    axes.plot([before[0] + 0.4, at[0] - 0.4], [before[1], at[1]], color=FAINT, linewidth=1.4, zorder=0)
            before = at
        end = f"branch to 1/{branch['scale']}"
        axes.plot([], [], color=colours[index], linewidth=3, label=end)
    axes.set_yticks([0, -1, -2], [f"1/{scale}" for scale in SCALES])
    axes.set_xticks(range(columns), [str(number + 1) for number in range(columns)])
    axes.set_xlim(-0.7, columns - 0.3)
    axes.set_ylim(-2.55, 0.55)
    axes.set_xlabel("layer; in each box the operator and the channels it gives, at the scale it gives them")
    axes.set_title(title, fontsize=10, color=INK)
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    axes.tick_params(length=0)
    return _png(figure)


def _cell(axes: Any, at: tuple[float, float], layer: Mapping[str, Any], colour: str, own: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    height = 0.34 if own else 0.5
    box = FancyBboxPatch(
        (at[0] - 0.4, at[1] - height / 2),
        0.8,
        height,
        boxstyle="round,pad=0.02,rounding_size=0.05",
        facecolor="white" if own else SHARED,
        edgecolor=colour,
        linewidth=1.6,
        linestyle=(0, (3, 1.5)) if "downup" in layer["operator"] else "-",
    )
    axes.add_patch(box)
    words = LETTERS[layer["operator"]].replace("\n", " " if own else "\n")
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
    axes.text(*at, f"{words}\n{layer['out']}", ha="center", va="center", fontsize=6.5, color=INK, bbox=ground)
