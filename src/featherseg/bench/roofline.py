"""How close a network comes to what its machine can do: the roofline (Williams, Waterman and Patterson 2009).

A layer of so many multiply-accumulates and bytes cannot take less time than either the arithmetic or the memory alone
would; the larger of the two is its bound, and the bound by the measured time is its share of the roof. Choices worth
knowing:

- Bytes are what a layer reads and writes by itself: its input, its output, its weights, each once. Maps that stay in a
  cache between two layers cost less than that: a share above 1 says so and is no mistake.
- A network's bound is the sum of its layers' bounds, since they run one after the other.
- The precision of each layer's products decides which peak it is held against.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Limit = Literal["compute", "memory"]


@dataclass(frozen=True)
class Peaks:
    """What the machine reached by itself, with so many threads.

    Attributes:
        gflops: 10^9 operations a second of matrix products by precision ("fp32", "bf16", "int8"), two for each
            multiply-accumulate; None where it could not be measured.
        gigabytes: 10^9 bytes a second of a copy, bytes read and bytes written.
        threads: that were used.
        how: by what each was measured.
    """

    gflops: Mapping[str, float | None]
    gigabytes: float
    threads: int
    how: str

    def of(self, precision: str) -> float | None:
        """The peak for a precision; that of float32 for one that was not measured."""
        return self.gflops.get(precision) or self.gflops.get("fp32")


@dataclass(frozen=True)
class Layer:
    """One operation as a runtime executed it.

    Attributes:
        name: the runtime's, or the module's in PyTorch.
        kind: "Convolution", say.
        precision: of its products.
        macs: multiply-accumulates; 0 for what only moves or compares.
        bytes: read and written.
        milliseconds: median of several runs.
    """

    name: str
    kind: str
    precision: str
    macs: int
    bytes: int
    milliseconds: float


@dataclass(frozen=True)
class Placed:
    """A layer, or a whole network, under the roof.

    Attributes:
        bound_ms: the least time it could take.
        share: of the roof it reaches, bound by time; None where no time was taken.
        limit: what the bound comes from, the larger part of it for a network.
        intensity: operations a byte.
        gflops: 10^9 operations a second that it reached.
    """

    bound_ms: float
    share: float | None
    limit: Limit
    intensity: float
    gflops: float | None


def placed(layer: Layer, peaks: Peaks) -> Placed:
    """Hold one layer against the machine's peaks."""
    compute, memory = _parts(layer, peaks)
    bound = max(compute, memory)
    return Placed(
        bound_ms=bound,
        share=bound / layer.milliseconds if layer.milliseconds else None,
        limit="compute" if compute > memory else "memory",
        intensity=2 * layer.macs / layer.bytes if layer.bytes else 0.0,
        gflops=2 * layer.macs / layer.milliseconds / 1e6 if layer.milliseconds else None,
    )


def placed_network(layers: Sequence[Layer], milliseconds: float, peaks: Peaks) -> Placed:
    """Hold a network, whose layers are known and which took so long as a whole, against the machine's peaks."""
    by_limit = {"compute": 0.0, "memory": 0.0}
    for layer in layers:
        one = placed(layer, peaks)
        by_limit[one.limit] += one.bound_ms
    bound = sum(by_limit.values())
    macs, moved = sum(layer.macs for layer in layers), sum(layer.bytes for layer in layers)
    return Placed(
        bound_ms=bound,
        share=bound / milliseconds if milliseconds else None,
        limit="compute" if by_limit["compute"] > by_limit["memory"] else "memory",
        intensity=2 * macs / moved if moved else 0.0,
        gflops=2 * macs / milliseconds / 1e6 if milliseconds else None,
    )


def _parts(layer: Layer, peaks: Peaks) -> tuple[float, float]:
    peak = peaks.of(layer.precision)
    return (2 * layer.macs / peak / 1e6 if peak else 0.0), layer.bytes / peaks.gigabytes / 1e6


def by_kind(layers: Iterable[Layer], peaks: Peaks) -> list[dict[str, Any]]:
    """Layers of one kind together, the slowest kind first."""
    kinds: dict[str, list[Layer]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, []).append(layer)
    rows = []
    for kind, some in kinds.items():
        taken = sum(layer.milliseconds for layer in some)
        rows.append({"kind": kind, "count": len(some), "ms": taken} | asdict(placed_network(some, taken, peaks)))
    return sorted(rows, key=lambda row: -row["ms"])


def to_dict(layers: Sequence[Layer], milliseconds: float, peaks: Peaks) -> dict[str, Any]:
    """A network's place, that of its kinds of layers and that of each layer, JSON-ready, in the order they ran.

    ``milliseconds`` is the time of the network among its rivals; ``profiled_ms`` is the sum of its layers' own times,
    which hold the cost of taking them.
    """
    return {
        "network": asdict(placed_network(layers, milliseconds, peaks))
        | {
            "ms": milliseconds,
            "profiled_ms": sum(layer.milliseconds for layer in layers),
            "macs": sum(layer.macs for layer in layers),
            "bytes": sum(layer.bytes for layer in layers),
        },
        "kinds": by_kind(layers, peaks),
        "layers": [asdict(layer) | asdict(placed(layer, peaks)) for layer in layers],
    }
