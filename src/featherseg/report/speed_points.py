"""Accuracy against speed: which network in which runtime and precision labels how well and how fast.

Choices worth knowing:

- Speeds are those of cards of ``featherseg bench`` and ``featherseg choose``, from uint8 image to uint8 label map. A
  panel holds one machine, size, number of threads and device; where two cards timed the same, the newer one counts.
- Accuracies are those of cards of ``featherseg eval`` for weights or files of the very name that was timed, seen once
  (neither mirrored nor at several scales), and those that a choice carries; a panel holds one protocol. Where the card
  of speeds names the digest of what was timed, only accuracies of that digest, or of an unknown one, are of it; of
  weights that come with the package the digest tells which card is of them. Otherwise a card of the precision that was
  timed goes before one of another, and then the newest counts. Where weights of one name lie in several folders, and no
  digest tells which was timed, their accuracy is unknown.
- A network that was timed by its own name, with fresh weights, is as fast as trained ones: it takes the accuracy of the
  one weights of it that are known, at the same size.
- The papers' points are those of the complexity cards, and have a panel of their own: their data and machine are other
  ones. Beside them stands this machine's speed of the same networks, at the same size, at the paper's accuracy.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from featherseg.errors import FeathersegError
from featherseg.report.card_files import LEAST, CardFile, is_number, mappings, number, positive, text

SPEED_KINDS = ("speed", "choice")


@dataclass(frozen=True)
class Conditions:
    """What speeds must share to stand in one panel.

    Attributes:
        machine: in words.
        abilities: of its processor, which decide which kernels run.
        size: (H, W) of the image.
        threads: of every runtime.
        device: of PyTorch.
    """

    machine: str
    abilities: tuple[str, ...]
    size: tuple[int, int]
    threads: int
    device: str

    def __str__(self) -> str:
        height, width = self.size
        where = "" if self.device == "cpu" else f", on {self.device}"
        return f"{self.machine}, {counted(self.threads, 'thread')}{where}, images of {height}x{width} (height x width)"


@dataclass(frozen=True)
class Timing:
    """One network in one runtime, precision and input scale, timed.

    Attributes:
        source: what was timed, without its folders.
        runtime, precision, scale: how.
        p50_ms, p90_ms: from uint8 image to uint8 label map.
        network_ms: p50 of the network alone, where it was told apart.
        reference_ratio: p50 by that of the reference network of the same run.
        sha256: of the files that were timed; none where the card does not tell, or the weights were fresh.
        accuracy: mIoU in percent, protocol and card's name, where a card of speeds itself carries them.
        conditions: what it was timed in.
        card: where this stands.
    """

    source: str
    runtime: str
    precision: str
    scale: float
    p50_ms: float
    p90_ms: float | None
    network_ms: float | None
    reference_ratio: float | None
    sha256: frozenset[str]
    accuracy: tuple[float, str, str] | None
    conditions: Conditions
    card: CardFile

    @property
    def fps(self) -> float:
        return 1000 / self.p50_ms

    @property
    def what(self) -> tuple[Any, ...]:
        """Equal for two timings of the same."""
        return self.source, self.runtime, self.precision, self.scale, self.conditions

    @property
    def name(self) -> str:
        return self.source if self.scale == 1 else f"{self.source} at {self.scale:g}"


@dataclass(frozen=True)
class Judged:
    """The accuracy of weights or of a file by an evaluation's card."""

    weights: str
    model: str | None
    precision: str | None
    sha256: str | None
    miou: float
    images: float | None
    card: CardFile

    @property
    def name(self) -> str:
        return PurePath(self.weights).name


@dataclass(frozen=True)
class Point:
    """A timing with an accuracy; ``note`` says whose it is, where that is not plain."""

    timing: Timing
    miou: float
    note: str


@dataclass(frozen=True)
class Panel:
    """The points that may be compared."""

    protocol: str
    conditions: Conditions
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Printed:
    """A paper's network: its printed accuracy and frames a second."""

    row: str
    model: str
    miou: float
    fps: float


@dataclass(frozen=True)
class Published:
    """The points of one paper's table."""

    paper: str
    table: str
    size: tuple[int, int] | None
    points: tuple[Printed, ...]
    card: CardFile


def read_timings(file: CardFile) -> list[Timing]:
    """What a card of a benchmark or of a choice timed. Raises FeathersegError for other figures."""
    figures = file.card["figures"]
    rows = mappings(figures, "contestants" if file.kind == "speed" else "candidates")
    conditions = _conditions(file)
    protocol = figures.get("protocol") if file.kind == "choice" else None
    return [_timing(row, protocol, conditions, file) for row in rows.values()]


def read_judged(file: CardFile) -> Judged | None:
    """The accuracy of an evaluation's card; None where it is no segmentation's, or of several views."""
    figures = file.card["figures"]
    miou = number(figures, "miou")
    several_views = "+" in file.protocol.rpartition("→")[2]
    if miou is None or several_views:
        return None
    plain = not file.card.get("arguments")
    model, precision, sha256 = (file.card.get(key) for key in ("model", "precision", "weights_sha256"))
    images = number(figures, "images")
    return Judged(
        text(file.card, "weights"), str(model) if plain and model else None, precision, sha256, miou, images, file
    )


def read_published(file: CardFile) -> list[Published]:
    """The papers' points of a complexity card, by table: its rows with an accuracy and frames a second.

    A row that stands in several tables, with figures of its own in each, is one of the last.

    Raises:
        FeathersegError: the rows are of another kind.
    """
    rows = file.card["figures"].get("rows")
    if not isinstance(rows, list):
        raise FeathersegError("figures.rows must be a list. Write the card again with its command.")
    tables: dict[str, list[Printed]] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise FeathersegError("a row must be an object. Write the card again with its command.")
        paper, table = row.get("paper"), row.get("table")
        if not isinstance(paper, Mapping):
            continue
        miou, fps = paper.get("miou"), paper.get("fps")
        if isinstance(miou, Mapping) and isinstance(fps, Mapping):
            table = next((name for name in reversed(miou) if name in fps), None)  # type: ignore[call-overload]
            miou, fps = miou.get(table), fps.get(table)
        if is_number(miou) and is_number(fps) and fps >= LEAST:
            printed = Printed(text(row, "row"), text(row, "model"), float(miou), float(fps))
            tables.setdefault(str(table), []).append(printed)
    paper, size = file.protocol.split("/")[0], size_of(file.protocol)
    return [Published(paper, table, size, tuple(points), file) for table, points in tables.items()]


def newest(timings: Iterable[Timing]) -> list[Timing]:
    """Each thing that was timed once, by the newest card; an accuracy that only an older one carries is kept."""
    found: dict[tuple[Any, ...], Timing] = {}
    for one in sorted(timings, key=lambda timing: timing.card.date):
        older = found.get(one.what)
        same = older is not None and (not one.sha256 or not older.sha256 or one.sha256 == older.sha256)
        found[one.what] = replace(one, accuracy=older.accuracy) if older and same and not one.accuracy else one
    return list(found.values())


def panels(
    timings: Sequence[Timing], judged: Sequence[Judged], digests: Mapping[str, str]
) -> tuple[list[Panel], list[Timing]]:
    """The panels, and the timings that no accuracy is known of under any protocol.

    Args:
        timings: each of something else.
        judged: of any weights.
        digests: SHA-256 of the weights that come with the package, by name.
    """
    found: dict[tuple[str, Conditions], list[Point]] = {}
    lonely = []
    by_protocol: dict[str, list[Judged]] = {}
    for one in judged:
        if one.sha256 != digests.get(one.weights, one.sha256):
            continue
        by_protocol.setdefault(one.card.protocol, []).append(one)
    for timing in timings:
        known: dict[str, Point] = {}
        if timing.accuracy is not None:
            known[timing.accuracy[1]] = Point(timing, timing.accuracy[0], timing.accuracy[2])
        for protocol, cards in by_protocol.items():
            accuracy = accuracy_of(timing, cards)
            if accuracy is not None:
                known[protocol] = accuracy
        for protocol, point in known.items():
            found.setdefault((protocol, timing.conditions), []).append(point)
        if not known:
            lonely.append(timing)
    made = [Panel(protocol, conditions, tuple(points)) for (protocol, conditions), points in found.items()]
    return sorted(made, key=lambda panel: (panel.protocol, str(panel.conditions))), lonely


def accuracy_of(timing: Timing, judged: Sequence[Judged]) -> Point | None:
    """The accuracy of what was timed, by cards of one protocol; None where none is of it, or it is not clear which."""
    if timing.scale != 1:
        return None
    named = [one for one in judged if one.name == timing.source]
    told = [one for one in named if one.sha256 in timing.sha256]
    same = told or [one for one in named if not timing.sha256 or one.sha256 is None]
    fresh = not named and not timing.sha256
    if fresh:
        same = [one for one in judged if one.model == timing.source and _same_size(timing, one)]
    if not same or (not told and len({one.weights for one in same}) > 1):
        return None
    exact = [one for one in same if one.precision == timing.precision]
    best = max(exact or same, key=lambda one: one.card.date)
    said = [f"weights {best.name}, timed with fresh ones"] if fresh else []
    most = max((one.images for one in judged if one.images is not None), default=None)
    if most is not None and best.images is not None and best.images < most:
        said.append(f"judged on {best.images:g} images, others on {most:g}")
    if best.precision and best.precision != timing.precision and not timing.precision.startswith("int8"):
        said.append(f"judged in {best.precision}")
    return Point(timing, best.miou, ", ".join([*said, best.card.name]))


def size_of(protocol: str) -> tuple[int, int] | None:
    """(H, W) of the images of a benchmark's or a count's protocol, ``"speed/360x480/2 threads/..."``."""
    found = re.search(r"(?:^|/)(\d{1,6})x(\d{1,6})(?:/|$)", protocol)
    return (int(found[1]), int(found[2])) if found else None


def image_size(protocol: str) -> tuple[int, int] | None:
    """(H, W) of the images of an accuracy's protocol, which names the width first: ``"camvid11/480x360/train→val"``."""
    found = re.search(r"(?:^|/)(\d{1,6})x(\d{1,6})(?:/|,|$)", protocol)
    return (int(found[2]), int(found[1])) if found else None


def counted(number: Any, what: str) -> str:
    """A number of things in words.

    >>> counted(1, "core"), counted(2, "core")
    ('1 core', '2 cores')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _same_size(timing: Timing, judged: Judged) -> bool:
    return image_size(judged.card.protocol) == timing.conditions.size


def _conditions(file: CardFile) -> Conditions:
    card, figures = file.card, file.card["figures"]
    machine, environment = card["machine"], card.get("environment")
    threads = number(figures, "threads")
    size = size_of(file.protocol)
    if size is None or threads is None:
        raise FeathersegError("the card does not tell the image's size and the threads. Write it again.")
    memory = machine.get("memory_gib")
    told = [
        machine.get("cpu"),
        counted(machine.get("cores"), "core"),
        f"{memory:g} GiB" if is_number(memory) else None,
    ]
    abilities = environment.get("abilities") if isinstance(environment, Mapping) else None
    return Conditions(
        ", ".join(str(one) for one in [*told, machine.get("gpu")] if one),
        tuple(map(str, abilities)) if isinstance(abilities, list) else (),
        size,
        int(threads),
        str(card.get("device") or "cpu"),
    )


def _timing(row: Mapping[str, Any], protocol: Any, conditions: Conditions, file: CardFile) -> Timing:
    stages = row.get("stages")
    alone = stages.get("network") if isinstance(stages, Mapping) else None
    miou, digests = number(row, "miou"), row.get("sha256")
    return Timing(
        source=text(row, "source"),
        runtime=text(row, "runtime"),
        precision=text(row, "precision"),
        scale=number(row, "scale") or 1.0,
        p50_ms=positive(row, "p50_ms"),
        p90_ms=number(row, "p90_ms"),
        network_ms=positive(alone, "p50_ms") if isinstance(alone, Mapping) else None,
        reference_ratio=number(row, "reference_ratio"),
        sha256=frozenset(map(str, digests.values())) if isinstance(digests, Mapping) else frozenset(),
        accuracy=(miou, protocol, file.name) if miou is not None and isinstance(protocol, str) else None,
        conditions=conditions,
        card=file,
    )
