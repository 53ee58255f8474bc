"""The candidates of a choice: networks and files in every runtime, precision and input scale, and how each is got.

Choices worth knowing:

- A candidate is timed and judged as ``featherseg predict`` would run it, with the options that its commands name: an
  input scale is ``--scales``, or ``--letterbox`` of files that give labels alone or take one size.
- Sessions are shared among the scales of one network in one runtime.
- A file that takes another size than is asked for is a candidate all the same: it is shown images in a letterbox.
- A runtime that is not installed is named with its pip command, and the others go on.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from featherseg.bench.contestants import (
    COMPILED,
    IN_TORCH,
    TORCH,
    Opened,
    Source,
    Way,
    exported_file,
    fixed_size,
    open_file,
    open_network,
    precisions_of,
    sources,
)
from featherseg.bench.measuring import Contestant
from featherseg.data.labels import CAMVID11
from featherseg.deploy.doors import DOORS, RUN
from featherseg.deploy.exported import RUNTIMES, read_classes
from featherseg.deploy.session import Precision
from featherseg.deploy.views import View, ViewedSegmenter
from featherseg.errors import FeathersegError, nearest
from featherseg.models.shipped import list_weights

Size = tuple[int, int]
_PROMISE = {"openvino": 0, "onnx": 2, TORCH: 3, "executorch": 4, "litert": 5, COMPILED: 6}


@dataclass(frozen=True)
class Running:
    """How candidates are run.

    Attributes:
        size: (H, W) of the images.
        threads: of every runtime.
        device: of PyTorch.
        classes: a file that names the classes of files of other programs.
    """

    size: Size
    threads: int
    device: str = "cpu"
    classes: str | None = None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network or file, in a runtime and precision, at an input scale."""

    source: Source
    way: Way
    scale: float = 1.0

    @property
    def name(self) -> str:
        """As reports name it."""
        return f"{self.source.name}, {self.way}" + ("" if self.scale == 1 else f", scale {self.scale:g}")

    def input_size(self, size: Size) -> Size:
        """(H, W) in which the network is to see images of ``size``."""
        return max(1, round(size[0] * self.scale)), max(1, round(size[1] * self.scale))


@dataclass(frozen=True)
class Listed:
    """What there is to measure.

    Attributes:
        candidates: the most promising first.
        absent: runtimes that are not installed, each with what to do.
        left_out: files that cannot be run here, each with the reason.
    """

    candidates: list[Candidate]
    absent: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def list_candidates(
    given: Sequence[str],
    *,
    runtimes: Sequence[str] | None = None,
    precisions: Sequence[Precision] | None = None,
    scales: Sequence[float] = (1.0,),
    device: str = "cpu",
) -> Listed:
    """The candidates among networks, weights and files; the shipped weights where none is named.

    Args:
        given: names and files.
        runtimes: of networks and weights; all that are installed, if None, but for PyTorch's compiler.
        precisions: all that each runtime has, if None.
        scales: of the input. Files that take one size alone have that.
        device: of PyTorch.

    Raises:
        FeathersegError: a runtime is unknown, a file is not there, or there is no candidate.
    """
    known = (TORCH, COMPILED, *RUN)
    for runtime in runtimes or ():
        if runtime not in known:
            hint = nearest(runtime, known)
            raise FeathersegError(f"no runtime is called {runtime!r}{hint}. There are: {', '.join(known)}.")
    if not given and not list_weights():
        raise FeathersegError("this build ships no weights to choose from. Name weights or files of your own.")
    named = sources(given or list_weights())
    listed = Listed([])
    ways: list[Way] = []
    if any(not source.exported for source in named):
        for runtime in dict.fromkeys(runtimes or (TORCH, *RUN)):
            ways += _ways(runtime, precisions, device, listed.absent)
    for source in named:
        for way in _ways_of_file(source, precisions, listed) if source.exported else ways:
            any_size = not source.exported or DOORS[way.runtime].any_size
            shown_at = dict.fromkeys(scales) if any_size else (1.0,)
            listed.candidates.extend(Candidate(source, way, scale) for scale in shown_at)
    listed.candidates.sort(key=_promise)
    if not listed.candidates:
        reasons = " ".join(dict.fromkeys([*listed.absent.values(), *listed.left_out.values()]))
        raise FeathersegError(f"there is no candidate to measure. {reasons or 'Name more runtimes or precisions.'}")
    return listed


def _promise(candidate: Candidate) -> tuple[float, bool, float]:
    """What is to be measured first where the time may not suffice for all."""
    runtime = -1 if candidate.source.exported else _PROMISE.get(candidate.way.runtime, len(_PROMISE))
    return runtime, candidate.way.precision == "fp32", abs(log(candidate.scale))


def _ways(runtime: str, precisions: Sequence[Precision] | None, device: str, absent: dict[str, str]) -> list[Way]:
    try:
        has = precisions_of(runtime, device)
    except FeathersegError as error:
        if runtime in (TORCH, COMPILED):
            raise
        absent[runtime] = str(error)
        return []
    return [Way(runtime, precision) for precision in has if precisions is None or precision in precisions]


def _ways_of_file(source: Source, precisions: Sequence[Precision] | None, listed: Listed) -> list[Way]:
    file = Path(source.given)
    if not file.is_file():
        raise FeathersegError(f"{file}: there is no such file. `featherseg export` writes files of other runtimes.")
    runtime = RUNTIMES[file.suffix.lower()]
    has: Sequence[Precision] = ("fp32",)
    if runtime == "openvino":
        try:
            has = precisions_of(runtime)
        except FeathersegError as error:
            listed.left_out[source.name] = str(error)
            return []
    found = [Way(runtime, precision) for precision in has if precisions is None or precision in precisions]
    if not found:
        listed.left_out[source.name] = f"{runtime} does not run it in {', '.join(precisions or ())} on this machine"
    return found


@dataclass(frozen=True, eq=False)
class Shown:
    """A candidate ready to label images.

    Attributes:
        candidate: which one.
        opened: what runs it.
        classes: the names of its classes; empty where nothing tells.
        metadata: what its file or weights say of themselves.
    """

    candidate: Candidate
    opened: Opened
    classes: tuple[str, ...]
    metadata: dict[str, Any]

    def view(self, size: Size) -> View:
        """How images of this size are shown."""
        height, width = fixed_size(self.opened.session)
        if height is not None and width is not None:
            return View() if (height, width) == size else View(letterbox=(height, width))
        if self.candidate.scale == 1:
            return View()
        if self.opened.session.output == "labels":
            return View(letterbox=self.candidate.input_size(size))
        return View(scales=(self.candidate.scale,))

    def input_size(self, size: Size) -> Size:
        """(H, W) in which the network sees images of ``size``."""
        return self.view(size).letterbox or self.candidate.input_size(size)

    def contestant(self, image: np.ndarray) -> Contestant:
        """Labelling one uint8 RGB image ``[H, W, 3]``; in three stages where it is shown as it is.

        Raises:
            FeathersegError: the file does not take images of this size.
        """
        view = self.view((image.shape[0], image.shape[1]))
        if view.plain:
            return self.opened.contestant(image)
        made = ViewedSegmenter(self.candidate.name, CAMVID11, self.opened.spec, self.opened.session, view)
        return Contestant({"label map": lambda pixels: made.predict(pixels).labels}, image, about=self.opened.about)


class Opener:
    """Opens candidates, each network once in each runtime.

    Args:
        running: how they are run. Its size may be set anew as long as nothing but files of other runtimes was opened.
        folder: for the exported files.
    """

    def __init__(self, running: Running, folder: Path) -> None:
        self.running, self._folder = running, folder
        self._opened: dict[tuple[Any, ...], Opened] = {}
        self.shown: dict[str, Shown] = {}

    def open(self, candidate: Candidate) -> Shown:
        """The candidate, ready to label images.

        Raises:
            FeathersegError: no such network or weights, its runtime is not installed or does not take it.
        """
        if candidate.name in self.shown:
            return self.shown[candidate.name]
        source, way, running = candidate.source, candidate.way, self.running
        fixed = way.runtime in DOORS and not source.exported and not DOORS[way.runtime].any_size
        size = candidate.input_size(running.size) if fixed else None
        opened = self._once(source, way, size)
        if source.exported:
            metadata = opened.metadata
            if running.classes is not None:
                metadata = metadata | read_classes(running.classes)
            if candidate.scale != 1 and None not in fixed_size(opened.session):
                raise FeathersegError("it takes images of one size alone, and has no other scale")
        else:
            metadata = source.network_and_metadata[1]
        shown = Shown(candidate, opened, tuple(metadata.get("classes") or ()), metadata)
        self.shown[candidate.name] = shown
        return shown

    def said_by_file(self, source: Source, way: Way) -> dict[str, Any]:
        """The metadata of an exported file; nothing where it cannot be opened, which is told when it is measured."""
        try:
            return self._once(source, way, None).metadata
        except FeathersegError:
            return {}

    def _once(self, source: Source, way: Way, size: Size | None) -> Opened:
        key = (source.name, way, size)
        if key not in self._opened:
            self._opened[key] = self._open(source, way, size)
        return self._opened[key]

    def _open(self, source: Source, way: Way, size: Size | None) -> Opened:
        running = self.running
        if source.exported:
            device = "cpu" if running.device == "cpu" else "auto"
            return open_file(
                source.given, way.precision, threads=running.threads, device=device, classes=running.classes
            )
        if way.runtime in IN_TORCH:
            return open_network(source, way, device=running.device)
        folder = self._folder if size is None else self._folder / f"{size[0]}x{size[1]}"
        folder.mkdir(exist_ok=True)
        file = exported_file(source, way.runtime, size or running.size, folder)
        return open_file(file, way.precision, threads=running.threads)


@dataclass(frozen=True)
class Commands:
    """What is typed to get and to use a candidate, from the weights or the file that a person named."""

    shown: Shown
    running: Running
    threads: int | None

    @cached_property
    def lines(self) -> list[str]:
        """One command each, in order."""
        candidate, running = self.shown.candidate, self.running
        source, way = candidate.source, candidate.way
        made, file = [], source.given
        if not source.exported and way.runtime in DOORS:
            door = DOORS[way.runtime]
            file = f"{source.name.removesuffix('.safetensors')}{door.suffix}"
            export = ["export", source.given, "--to", way.runtime]
            if not door.any_size:
                export += ["--size", _text(candidate.input_size(running.size))]
            made.append([*export, "-o", file])
        predict = ["predict", "PICTURES", "--weights", file]
        if way.precision != "fp32":
            predict += ["--precision", way.precision]
        if way.runtime == COMPILED:
            predict.append("--compile")
        if running.device != "cpu" and (way.runtime in IN_TORCH or source.exported):
            predict += ["--device", running.device]
        if self.threads is not None:
            predict += ["--threads", str(self.threads)]
        if running.classes is not None and source.exported:
            predict += ["--classes", running.classes]
        view = self.shown.view(running.size)
        if view.letterbox is not None:
            predict += ["--letterbox", _text(view.letterbox)]
        elif view.scales != (1.0,):
            predict += ["--scales", f"{candidate.scale:g}"]
        return [shlex.join(["featherseg", *command]) for command in [*made, [*predict, "-o", "predicted"]]]


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
