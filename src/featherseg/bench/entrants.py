"""What is to be measured against what: a person's names, files and wishes become contestants, all opened.

Choices worth knowing:

- A network enters in every runtime and precision that is there; a file in its own runtime, in every precision that this
  has. With plain PyTorch asked for, each network enters in its two ways too.
- Everything is opened before anything is timed, so that a mistake is told at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

import torch

from featherseg.bench.contestants import (
    IN_TORCH,
    PLAIN_LAST_WAY,
    PLAIN_WAY,
    Opened,
    Source,
    Way,
    exported_file,
    fixed_size,
    open_file,
    open_network,
    precisions_of,
    sources,
    ways,
)
from featherseg.deploy.exported import RUNTIMES
from featherseg.deploy.session import Precision
from featherseg.errors import FeathersegError

SIZE = (1024, 2048)
Told = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        given: networks by name, weights, or files of other runtimes.
        size: (H, W) of the image; that of the files that take one size alone, else 1024x2048, if None.
        runtimes, precisions: for networks and weights; all that are there, if None. A file has its own runtime.
        threads: of every contestant; PyTorch's, if None.
        device: of PyTorch.
        against_torch: measure plain PyTorch too, contiguous and channels last.
        rounds, seconds, limit: see :func:`featherseg.bench.measuring.measure`.
        memory, energy, roofline: whether they are looked at.
        classes: a file that names the classes of files of other programs.
    """

    given: tuple[str, ...]
    size: tuple[int, int] | None = None
    runtimes: tuple[str, ...] | None = None
    precisions: tuple[Precision, ...] | None = None
    threads: int | None = None
    device: str = "cpu"
    against_torch: bool = False
    rounds: int = 100
    seconds: float = 20.0
    limit: float = inf
    memory: bool = True
    energy: bool = True
    roofline: bool = False
    classes: str | None = None


@dataclass(frozen=True, eq=False)
class Entrant:
    """One contestant of a report with where it came from.

    Attributes:
        source: the name that a person gave.
        way: its runtime and precision.
        opened: what runs it.
        file: that it was opened from; None for PyTorch.
    """

    source: Source
    way: Way
    opened: Opened
    file: Path | None


def asked_for(request: Request) -> list[tuple[Source, Way]]:
    """Who competes, before anything is opened.

    Raises:
        FeathersegError: something of it is unknown, not installed, or not there.
    """
    named = sources(request.given)
    networks = [source for source in named if not source.exported]
    if request.against_torch and not networks:
        raise FeathersegError("--against torch runs a network, and files alone are given. Name its weights as well.")
    plain = [PLAIN_WAY, PLAIN_LAST_WAY] if request.against_torch else []
    asked = ways(request.runtimes, request.precisions, request.device) if networks else []
    found: list[tuple[Source, Way]] = []
    for source in named:
        own = _ways_of_file(Path(source.given), request) if source.exported else [*plain, *asked]
        found += [(source, way) for way in own]
    return found


def entrants(
    request: Request,
    asked: list[tuple[Source, Way]],
    size: tuple[int, int],
    folder: Path,
    told: Told = lambda line: None,
) -> dict[str, Entrant]:
    """Open everyone of :func:`asked_for`, by the name a report gives it.

    Raises:
        FeathersegError: one is unknown, not installed, or does not fit.
    """
    threads = request.threads or torch.get_num_threads()
    found: dict[str, Entrant] = {}
    for number, (source, way) in enumerate(asked, 1):
        told(f"opening {number} of {len(asked)}: {source.name} in {way}")
        file = None
        if source.exported:
            file, device, classes = Path(source.given), runtime_device(request), request.classes
            opened = open_file(file, way.precision, threads=threads, device=device, classes=classes)
        elif way.runtime in IN_TORCH:
            opened = open_network(source, way, device=request.device)
        else:
            file = exported_file(source, way.runtime, size, folder)
            opened = open_file(file, way.precision, threads=threads)
        found[f"{source.name}, {way}"] = Entrant(source, way, opened, file)
    return found


def _ways_of_file(file: Path, request: Request) -> list[Way]:
    runtime = RUNTIMES[file.suffix.lower()]
    if not file.is_file():
        raise FeathersegError(f"{file}: there is no such file. `featherseg export` writes files of other runtimes.")
    has: tuple[Precision, ...] = precisions_of(runtime) if runtime == "openvino" else ("fp32",)
    asked = has if request.precisions is None else request.precisions
    chosen: list[Precision] = [precision for precision in has if precision in asked]
    if not chosen:
        raise FeathersegError(
            f"{file}: {runtime} does not compute it in {', '.join(request.precisions or ())} on this machine. "
            f"It has: {', '.join(has)}."
        )
    return [Way(runtime, precision) for precision in chosen]


def runtime_device(request: Request) -> str:
    return "cpu" if request.device == "cpu" else "auto"


def chosen_size(request: Request) -> tuple[int, int]:
    """The size that is asked for, or that of the first file that takes one alone, or 1024x2048."""
    if request.size is not None:
        return request.size
    for source in sources(request.given):
        if source.exported:
            file = Path(source.given)
            way = _ways_of_file(file, request)[0]
            opened = open_file(file, way.precision, threads=1, classes=request.classes)
            sides = fixed_size(opened.session)
            if None not in sides:
                return sides  # type: ignore[return-value]
    return SIZE
