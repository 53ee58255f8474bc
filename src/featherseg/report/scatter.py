"""A scatter of accuracy over speed as inline SVG, from plain values.

Choices worth knowing:

- Lines, texts and markers take their colours from the page's style, so that they follow light and dark; each series has
  a marker besides its colour, for readers and printers without colours.
- Speeds are set on a logarithmic axis: networks of ten and of a hundred frames a second stand in one picture.
- Points of the front (none is both faster and more accurate) and of series that ask for it have their name beside them,
  as far as there is room; every point has it in a hint, and the description tells all to readers who cannot see it.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 16, 48
COLOURS, MARKERS = 6, ("circle", "square", "triangle", "diamond", "cross", "star")
LETTER, LINE = 6.6, 13
"""Width of a letter and height of a line of the names beside points, for keeping them apart."""

Placing = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """Points that are shown alike.

    Attributes:
        name: in the legend.
        colour: below ``COLOURS``.
        marker: below ``len(MARKERS)``.
        points: (x, y, name) each, x above 0.
        names: whether all its points have their name beside them.
    """

    name: str
    colour: int
    marker: int
    points: Sequence[tuple[float, float, str]]
    names: bool = False


@dataclass(frozen=True)
class Scatter:
    """Series in one picture.

    Attributes:
        series: with a point at least, all together.
        x_title, y_title: along the axes.
        caption: below, and before the points in the description.
        front: draw the line of the points that none beats, and name them.
    """

    series: Sequence[Series]
    x_title: str
    y_title: str
    caption: str
    front: bool = False


def front(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The points that no other beats in x or y without losing in the other, by rising x; of equal ones the first."""
    best: list[tuple[float, float, str]] = []
    for point in sorted(points, key=lambda one: (-one[0], -one[1])):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best[::-1]


def scatter_svg(plot: Scatter) -> str:
    """The picture as an ``<svg>`` element without identifiers. Raises ValueError for a plot without points."""
    points = [point for series in plot.series for point in series.points]
    if not points:
        raise ValueError("a scatter needs a point")
    low, high = _range([math.log10(x) for x, _, _ in points], 0.06, 0.15)
    bottom, top = _range([y for _, y, _ in points], 0.1, 2.0)

    def across(x: float) -> float:
        return LEFT + (math.log10(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    best = [(across(x), down(y), name) for x, y, name in front(points)] if plot.front else []
    named = [(across(x), down(y), name) for series in plot.series if series.names for x, y, name in series.points]
    taken = [(across(x) - 6, down(y) - 6, across(x) + 6, down(y) + 6) for x, y, _ in points]
    parts = [*_axes(plot, (low, high), (bottom, top), across, down)]
    if len(best) > 1:
        corners = "".join(f"V{y:.1f}H{x:.1f}" for x, y, _ in best[1:])
        parts.append(f'<path class="front" d="M{best[0][0]:.1f} {best[0][1]:.1f}{corners}"/>')
    for series in plot.series:
        look = f"c{series.colour % COLOURS}"
        for x, y, name in series.points:
            hint = f"{name}, {series.name}: {_short(x)}, {y:.1f}"
            mark = _marker(MARKERS[series.marker % len(MARKERS)], across(x), down(y))
            parts.append(f'<g class="{look}"><title>{html.escape(hint)}</title>{mark}</g>')
    parts += _names([*best, *named], taken)
    told = "; ".join(f"{name}, {s.name}: {_short(x)}, {y:.1f}" for s in plot.series for x, y, name in s.points)
    description = f"{plot.caption} {plot.x_title}, {plot.y_title}. {told}."
    body = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(plot.caption)}">'
        f"<desc>{html.escape(description)}</desc>\n{body}\n</svg>"
    )


def marker_svg(colour: int, marker: int) -> str:
    """A series' marker alone, for the legend."""
    mark = _marker(MARKERS[marker % len(MARKERS)], 8, 8)
    return f'<svg class="key c{colour % COLOURS}" viewBox="0 0 16 16" aria-hidden="true">{mark}</svg>'


def _range(values: Sequence[float], margin: float, least: float) -> tuple[float, float]:
    """From below the smallest to above the largest, ``least`` apart from the middle at least."""
    low, high = min(values), max(values)
    room = max(margin * (high - low), least)
    return low - room, high + room


def _axes(
    plot: Scatter, logs: tuple[float, float], ends: tuple[float, float], across: Placing, down: Placing
) -> list[str]:
    parts = []
    for x in _log_ticks(*logs):
        place = across(x)
        parts.append(f'<path class="grid" d="M{place:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(x)}</text>')
    for y in _ticks(*ends):
        place = down(y)
        parts.append(f'<path class="grid" d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{place + 4:.1f}" text-anchor="end">{_short(y)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{html.escape(plot.x_title)}</text>"
    )
    turned = f'transform="translate(14 {middle:.0f}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{html.escape(plot.y_title)}</text>')
    return parts


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        found = [step * 10.0**decade for decade in decades for step in steps]
        inside = [x for x in found if low <= math.log10(x) <= high]
        if len(inside) > 1:
            return inside
    return _ticks(10**low, 10**high)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, about six."""
    raw = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _marker(kind: str, x: float, y: float) -> str:
    def outline(*offsets: tuple[float, float]) -> str:
        return f'<path d="M{"L".join(f"{x + dx:.1f} {y + dy:.1f}" for dx, dy in offsets)}Z"/>'

    match kind:
        case "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        case "square":
            return outline((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5))
        case "triangle":
            return outline((0, -6), (5.5, 4.5), (-5.5, 4.5))
        case "diamond":
            return outline((0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0))
        case "cross":
            return f'<path class="line" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"/>'
        case _:
            turns = [(math.pi * (turn / 5 - 0.5), 7.5 if turn % 2 == 0 else 3.2) for turn in range(10)]
            return outline(*((radius * math.cos(angle), radius * math.sin(angle)) for angle, radius in turns))


def _names(placed: Sequence[tuple[float, float, str]], taken: list[tuple[float, float, float, float]]) -> list[str]:
    """Each name where nothing else stands, as near as there is room; left out where there is none."""
    parts = []
    for x, y, name in placed:
        wide = LETTER * len(name)
        for dx, dy, left in ((9, -9, 0.0), (9, 17, 0.0), (-9, -9, wide), (-9, 17, wide), (0, -12, wide / 2)):
            box = (x + dx - left, y + dy - LINE + 3, x + dx - left + wide, y + dy + 3)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(f'<text class="name" x="{box[0]:.1f}" y="{y + dy:.1f}">{html.escape(name)}</text>')
                break
    return parts


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
