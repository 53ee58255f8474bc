"""The blocks of accuracy against speed: a picture and a table for each panel, and the papers' points."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from itertools import count
from pkgutil import iter_modules

from featherseg.report.html import Block, Heading, Table, Text, Value
from featherseg.report.scatter import COLOURS, Scatter, Series
from featherseg.report.speed_points import (
    Conditions,
    Judged,
    Panel,
    Published,
    Timing,
    counted,
    image_size,
    newest,
    panels,
)

RUNTIMES = ("openvino", "onnx", "torch", "plain torch", "litert", "compiled")
PRECISIONS = ("fp32", "bf16", "int8", "int8+bf16")
OTHER_MARKER, PRINTED_MARKER = 4, 5
FPS = "frames a second (logarithmic)"


def speed_blocks(
    timings: Iterable[Timing], judged: Sequence[Judged], published: Sequence[Published], digests: Mapping[str, str]
) -> list[Block]:
    """One panel a protocol and machine, what has no accuracy, and the papers' points.

    Args:
        timings, judged, published: as speed_points.py reads them.
        digests: SHA-256 of the weights that come with the package, by name.
    """
    timings = newest(timings)
    made, lonely = panels(timings, judged, digests)
    blocks: list[Block] = []
    if timings:
        blocks.append(
            Text(
                "Frames a second from a uint8 image in memory to its uint8 label map, by the median time. Each picture "
                "holds one protocol of accuracy, one machine, one size and one number of threads. The dashed line is "
                "the front: none is both faster and more accurate."
            )
        )
    else:
        blocks.append(
            Text(
                "No card of `featherseg bench` or `featherseg choose` was found, so nothing is known of the speed of "
                "these networks on any machine."
            )
        )
    for panel in made:
        blocks += _panel(panel)
    if lonely:
        blocks += [Heading("Timed, of unknown accuracy"), _lonely(lonely)]
    for size in dict.fromkeys(one.size for one in published):
        blocks += _published([one for one in published if one.size == size], timings, size)
    return blocks


def runtime_series(points: Iterable[tuple[str, str, float, float, str]], said: str = "") -> list[Series]:
    """One series a runtime and precision, of (runtime, precision, x, y, name) each; their colour tells the runtime."""
    found: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    for runtime, precision, x, y, name in points:
        found.setdefault((runtime, precision), []).append((x, y, name))
    colours = {name: index for index, name in enumerate(RUNTIMES)}
    unknown = count(len(RUNTIMES))
    series = []
    for (runtime, precision), members in sorted(found.items()):
        colour = colours.setdefault(runtime, next(unknown) % COLOURS) if runtime not in colours else colours[runtime]
        marker = PRECISIONS.index(precision) if precision in PRECISIONS else OTHER_MARKER
        series.append(Series(f"{runtime} {precision}{said}", colour, marker, members))
    return series


def _panel(panel: Panel) -> list[Block]:
    points = sorted(panel.points, key=lambda point: point.timing.p50_ms)
    drawn = ((p.timing.runtime, p.timing.precision, p.timing.fps, p.miou, p.timing.name) for p in points)
    caption = f"Accuracy under {panel.protocol} against speed on {panel.conditions}."
    size, timed = image_size(panel.protocol), panel.conditions.size
    blocks: list[Block] = [
        Heading(f"{panel.protocol}, on {panel.conditions}"),
        Scatter(runtime_series(drawn), FPS, "mIoU, %", caption, front=True),
    ]
    if size is not None and size != timed:
        blocks.append(
            Text(f"Accuracies are of images of {size[0]}x{size[1]}, speeds of {timed[0]}x{timed[1]}: two protocols.")
        )
    head = ["network", "runtime", "mIoU, %", *_TIMES, "accuracy from", "speed from"]
    rows: list[list[Value]] = []
    for point in points:
        one = point.timing
        rows.append([one.name, _way(one), round(point.miou, 2), *_times(one), point.note, one.card.name])
    return [*blocks, Table(head, rows)]


def _lonely(timings: Sequence[Timing]) -> Table:
    rows: list[list[Value]] = [
        [one.name, _way(one), str(one.conditions), *_times(one), one.card.name]
        for one in sorted(timings, key=lambda one: (str(one.conditions), one.p50_ms))
    ]
    return Table(["network", "runtime", "on", *_TIMES, "speed from"], rows)


def _published(published: Sequence[Published], timings: Sequence[Timing], size: tuple[int, int] | None) -> list[Block]:
    accuracies = {point.model: (point.row, point.miou) for one in published for point in one.points}
    ours: dict[Conditions, list[Timing]] = {}
    for one in timings:
        if one.conditions.size == size and one.source in accuracies and one.scale == 1 and one.network_ms:
            ours.setdefault(one.conditions, []).append(one)
    series = [
        Series(
            f"{one.paper}, table {one.table}, as printed",
            COLOURS - 1 - number % COLOURS,
            PRINTED_MARKER,
            [(point.fps, point.miou, point.row) for point in one.points],
            names=True,
        )
        for number, one in enumerate(published)
    ]
    rows: list[list[Value]] = [
        [point.row, f"{one.paper}, table {one.table}", None, point.miou, point.fps, one.card.name]
        for one in published
        for point in one.points
    ]
    said = [f"{one.paper}: speeds by {taken}" for one in published if (taken := _taken_on(one.paper))]
    for conditions, members in ours.items():
        here = [(one, *accuracies[one.source], 1000 / (one.network_ms or 1.0)) for one in members]
        where = f", {conditions.machine}, {counted(conditions.threads, 'thread')}"
        series += runtime_series(
            ((one.runtime, one.precision, fps, miou, row) for one, row, miou, fps in here), f"{where}, network alone"
        )
        rows += [[row, _way(one), str(conditions), miou, round(fps, 2), one.card.name] for one, row, miou, fps in here]
    shape = "" if size is None else f" at {size[0]}x{size[1]}"
    about = (
        f"Stars are what the papers print{shape}: their accuracy, on their data, and their speed, on their machines. "
        + (
            "The other points are these networks on the machines named, without weights of the papers: the network "
            "alone, up to its logits, at the accuracy that the paper prints. "
            if ours
            else "No card here times these networks at that size (`featherseg bench --paper` writes one). "
        )
        + ". ".join(dict.fromkeys(said))
    )
    caption = f"Accuracy against speed as the papers print them{shape}" + (", and speed here." if ours else ".")
    head = ["network", "by", "on", "mIoU as printed, %", "frames a second", "card"]
    return [
        Heading("The papers' networks"),
        Text(about),
        Scatter(series, FPS, "mIoU as printed, %", caption),
        Table(head, rows),
    ]


_TIMES = ("frames a second", "p50, ms", "p90, ms", "to reference")


def _times(one: Timing) -> list[Value]:
    ninety = None if one.p90_ms is None else round(one.p90_ms, 2)
    ratio = None if one.reference_ratio is None else round(one.reference_ratio, 3)
    return [round(one.fps, 2), round(one.p50_ms, 2), ninety, ratio]


def _way(one: Timing) -> str:
    return f"{one.runtime} {one.precision}"


def _taken_on(paper: str) -> str | None:
    """What a paper's speeds were taken on, where the project knows it."""
    from featherseg.bench import papers

    if paper not in {module.name for module in iter_modules(papers.__path__)}:
        return None
    return getattr(import_module(f"featherseg.bench.papers.{paper}"), "SPEEDS_TAKEN_ON", None)
