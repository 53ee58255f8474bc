"""A table of latencies, measured on the user's own device by the runtime they deploy.

Design choices:
- an operator is measured as a derived network runs it: in ``eval()``, at batch 1, on its shape, the enlarging of maps
  with the arm before it and the joining of maps with the convolution behind it: nothing of the decoder is left out;
- a runtime is whatever turns a module and its inputs into something that runs (runtimes.py); the table does not know
  which;
- between two runs of an operator some memory is written, since within a network it does not find its weights and its
  input in a core's own cache. Not where the runtime tells what layers take: there the sum is nearer without it;
- each entry is the median of several runs, and is measured once: tables are kept in a file, with the fingerprint of
  what they were measured on. A file with another fingerprint is not used;
- a table in the published form (names of classes, milliseconds) is read as well; it is always another machine's.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featherseg.cards import machine
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.models.fasterseg import FeatureFusion, SegmentationHead
from featherseg.models.fasterseg_cells import OPERATORS, ConvNorm, build_operator, resize_map
from featherseg.models.fasterseg_shapes import Kind, OperatorShape
from featherseg.search.decoding import PAIRS
from featherseg.search.latency import decoder_shapes
from featherseg.search.runtimes import Runtime
from featherseg.search.space import FULL, SCALES, Role, SearchSpace

FORMAT = 1
BETWEEN_BYTES = 4 * 2**20
"""About a core's own cache: repeated on warm caches, an operator takes two thirds of its time within a network."""
LEAST_RUNS, MOST_RUNS = 5, 200
Fingerprint = dict[str, Any]


class _Entry(ConvNorm):
    """The convolution on the image; of its map a corner is given, so that moving it out costs nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., :1, :1]


class _Arm(ConvNorm):
    """An arm with the enlarging behind it."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return resize_map(y, (2 * y.shape[-2], 2 * y.shape[-1]), "bilinear")


class _Joining(nn.Module):
    """A convolution on two maps that are joined first."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.convolution(torch.cat([one, other], 1))


def _is_first(shape: OperatorShape) -> bool:
    """Whether an operator takes the image; no other plain convolution has so few channels."""
    return shape.kind == "conv_norm" and shape.in_channels == 3


def operator_module(shape: OperatorShape) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """What is measured for a shape: the module in ``eval()``, and its inputs at batch 1."""
    given, to = shape.in_channels, shape.out_channels
    channels: tuple[int, ...] = (given,)
    if shape.kind == "fusion":
        module: nn.Module = _Joining(FeatureFusion(given, to))
        channels = (given // 2, given - given // 2)
    elif shape.kind == "head":
        module = SegmentationHead(given, to)
    elif _is_first(shape):
        module = _Entry(given, to, shape.kernel, shape.stride)
    elif shape.kind == "conv_norm":
        module = _Arm(given, to, 1) if shape.kernel == 1 else ConvNorm(given, to, shape.kernel, shape.stride)
        if shape.kernel != 1 and shape.stride == 1:
            module, channels = _Joining(module), (to, given - to)
    elif shape.kind == "skip" and shape.stride == 1:
        module = ConvNorm(given, to, 1)  # what it is while it is searched; a derived network has none
    else:
        module = build_operator(shape.kind, given, to, shape.stride)
    return module.eval(), tuple(torch.zeros(1, one, shape.height, shape.width) for one in channels)


def median_milliseconds(
    run: Callable[[], object], *, seconds: float = 0.1, before: Callable[[], object] = lambda: None
) -> float:
    """The median time of a call of ``run``; ``before`` is called before each and not measured."""

    def milliseconds() -> float:
        before()
        began = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - began)

    return median_told(milliseconds, seconds=seconds)


def median_told(run: Callable[[], float], *, seconds: float = 0.1) -> float:
    """The median of the milliseconds that ``run`` tells: at least 5 runs, up to 200 until ``seconds`` are told.

    Two more warm up.
    """
    for _ in range(2):
        run()
    told: list[float] = []
    while len(told) < LEAST_RUNS or (sum(told) < 1000 * seconds and len(told) < MOST_RUNS):
        told.append(run())
    return statistics.median(told)


def fingerprint(runtime: Runtime) -> Fingerprint:
    """What a measurement depends on: the machine by its kind, the runtime and its version, threads and precision."""
    here = machine()
    return {key: here[key] for key in ("cpu", "cores", "gpu", "os")} | runtime.describe()


def differences(one: Fingerprint, other: Fingerprint) -> list[str]:
    """How two fingerprints differ, for a person."""
    return [
        f"{key} {one.get(key)!r} and not {other.get(key)!r}"
        for key in sorted(set(one) | set(other))
        if one.get(key) != other.get(key)
    ]


def entry_name(shape: OperatorShape) -> str:
    """The name of an operator's entry: ``conv_2x 45x60 32>64 /2``."""
    name = f"{shape.kind} {shape.height}x{shape.width} {shape.in_channels}>{shape.out_channels} /{shape.stride}"
    return name + (f" k{shape.kernel}" if shape.kind == "conv_norm" else "")


class _Between:
    """Memory that is written between two runs of an operator, as the rest of a network does; made when it is needed."""

    def __init__(self) -> None:
        self.memory: Tensor | None = None

    def add_one(self) -> None:
        if self.memory is None:
            self.memory = torch.zeros(BETWEEN_BYTES // 4)
        self.memory.add_(1)


_between = _Between()


@dataclass
class LatencyTable:
    """Milliseconds by entry. ``runtime`` measures what is asked for and not there; without one it is refused."""

    milliseconds: dict[str, float]
    measured_on: Fingerprint
    runtime: Runtime | None = None
    published: bool = False
    seconds: float = 0.1
    measured: int = field(default=0, compare=False)

    def price(self, shape: OperatorShape) -> float:
        """The entry of an operator; :data:`featherseg.search.latency.Price`.

        Raises:
            FeathersegError: it is not there and cannot be measured.
        """
        name = shape.published_key(official=False) if self.published else entry_name(shape)
        if name not in self.milliseconds:
            if self.runtime is None:
                raise FeathersegError(
                    f"the table of latencies has no entry {name!r}. Measure one for this space and latency.size, or "
                    "take another table."
                )
            module, inputs = operator_module(shape)
            layers = self.runtime.prepare_layers(module, inputs)
            if layers is not None and not _is_first(shape):
                self.milliseconds[name] = median_told(layers, seconds=self.seconds)
            else:
                run = self.runtime.prepare(module, inputs)
                before = _between.add_one if layers is None else lambda: None
                self.milliseconds[name] = median_milliseconds(run, seconds=self.seconds, before=before)
            self.measured += 1
        return self.milliseconds[name]

    def measure(self, shapes: Iterable[OperatorShape], progress: Callable[[int, int], None] | None = None) -> None:
        """Measure all ``shapes`` that are not there yet; ``progress`` is called with (done, all)."""
        wanted = list(dict.fromkeys(shapes))
        for number, shape in enumerate(wanted, start=1):
            self.price(shape)
            if progress:
                progress(number, len(wanted))

    def save(self, path: Path) -> Path:
        """Write the table with its fingerprint; entries in order, so that two can be compared."""
        content = {"format": FORMAT, "measured_on": self.measured_on, "milliseconds": self.milliseconds}
        if self.published:
            content = {"note": self.measured_on.get("source"), "ms": self.milliseconds}
        return atomic_write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_table(path: str | Path) -> LatencyTable:
    """A table from its file, whoever measured it.

    Raises:
        FeathersegError: there is no such file, or it is no table.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeathersegError(f"{path}: the table of latencies cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise FeathersegError(f"{path}: no JSON ({error}). Leave latency.table out to measure one.") from None
    published = isinstance(content, dict) and "ms" in content
    entries = content.get("ms" if published else "milliseconds") if isinstance(content, dict) else None
    numbers = isinstance(entries, dict) and all(isinstance(v, int | float) and v >= 0 for v in entries.values())
    about = {"source": content.get("note")} if published else isinstance(content, dict) and content.get("measured_on")
    if not numbers or not isinstance(about, dict) or (not published and content.get("format") != FORMAT):
        raise FeathersegError(
            f"{path}: no table of latencies, or one of another version. Leave latency.table out to measure one."
        )
    assert isinstance(entries, dict)
    return LatencyTable(entries, about, published=published)


def open_table(path: Path, runtime: Runtime, *, seconds: float = 0.1) -> tuple[LatencyTable, list[str]]:
    """The kept table of this machine, or an empty one to be measured, and why a kept one was not used.

    Args:
        path: where tables are kept; need not exist.
        runtime: measures what is missing.
        seconds: for each entry, about.
    """
    here, why = fingerprint(runtime), []
    if path.is_file():
        try:
            kept = read_table(path)
            why = differences(kept.measured_on, here)
            if not why:
                return LatencyTable(kept.milliseconds, here, runtime, seconds=seconds), []
        except FeathersegError as error:
            why = [str(error)]
    return LatencyTable({}, here, runtime, seconds=seconds), why


def given_table(path: str | Path, runtime: Runtime, *, foreign: bool = False) -> LatencyTable:
    """A table that a person names, which is used as it is and not added to.

    Raises:
        FeathersegError: it was measured on something else, and ``foreign`` does not say that this is meant.
    """
    table = read_table(path)
    other = differences(table.measured_on, fingerprint(runtime))
    if other and not foreign:
        raise FeathersegError(
            f"{path}: was not measured here: {'; '.join(other)}. Leave latency.table out to measure one, or set "
            "latency.foreign=true to search for the device that it is of."
        )
    return table


def needed_shapes(
    space: SearchSpace, role: Role, size: tuple[int, int], num_classes: int, *, skips: bool = False
) -> list[OperatorShape]:
    """Every operator of every network that the space holds for images of ``size``, each once.

    ``skips`` adds those of stride 1, which only the supernet has.
    """
    widths = space.widths if role.searches_widths else (FULL,)
    convolutions: tuple[Kind, ...] = OPERATORS[0 if skips else 1 :]  # type: ignore[assignment]
    first, second, entry = space.stem(role)
    shapes = [
        OperatorShape("conv_norm", *size, 3, first, 2),
        OperatorShape("conv_2x", size[0] // 2, size[1] // 2, first, second, 2),
        OperatorShape("conv_2x", size[0] // 4, size[1] // 4, second, entry, 2),
    ]
    for scale in SCALES:
        at = size[0] // (8 << scale), size[1] // (8 << scale)
        taken_here = sorted({*widths, *((role.stem,) if scale == 0 else ())})
        for taken in taken_here:
            given = space.channels(scale, taken)
            for width in sorted({*widths, role.head}):
                shapes += [OperatorShape(kind, *at, given, space.channels(scale, width)) for kind in convolutions]
            if scale < SCALES[-1]:
                for width in widths:
                    kinds: tuple[Kind, ...] = OPERATORS  # type: ignore[assignment]
                    shapes += [OperatorShape(kind, *at, given, space.channels(scale + 1, width), 2) for kind in kinds]
                arm = space.channels(scale, role.head)
                shapes.append(OperatorShape("conv_norm", *at, arm + given, arm))
    for end in {end for pair in PAIRS for end in pair}:
        shapes += decoder_shapes(space, role, end, size)
    fused = 2 * space.channels(0, role.head)
    at = size[0] // 8, size[1] // 8
    shapes += [OperatorShape("fusion", *at, fused, fused, kernel=1), OperatorShape("head", *at, fused, num_classes)]
    return list(dict.fromkeys(shapes))


def network_milliseconds(network: nn.Module, size: tuple[int, int], runtime: Runtime, *, seconds: float = 0.5) -> float:
    """The measured time of a whole network on one normalised image of ``size``, up to its logits."""
    return median_milliseconds(runtime.prepare(_Logits(network.eval()), (torch.zeros(1, 3, *size),)), seconds=seconds)


class _Logits(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).logits
