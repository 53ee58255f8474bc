"""How long programs take on the same images: rounds in turn, in one process.

Choices worth knowing:

- What is timed is one image from uint8 pixels to its label map, as ``featherseg predict`` makes it.
- In every round each program labels the same image; a load that comes or goes meets all of them. How many times as
  fast one is as another is the median over the rounds, each of which compares times that were taken side by side.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

LEAST_ROUNDS = 5
_WARM = 3


@dataclass(frozen=True)
class Speeds:
    """Times in ms of every round, by the name of the program."""

    milliseconds: dict[str, tuple[float, ...]]

    def p50(self, name: str) -> float:
        """The median time of a program, ms."""
        return median(self.milliseconds[name])

    def times_as_fast(self, name: str, other: str) -> float:
        """How many times as fast ``name`` is as ``other``: the median of the rounds' ratios."""
        return median(b / a for a, b in zip(self.milliseconds[name], self.milliseconds[other], strict=True))

    def fastest(self, names: Sequence[str]) -> str:
        """The one with the least median time."""
        return min(names, key=self.p50)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: medians in ms, and the number of rounds."""
        return {
            "p50_ms": {name: self.p50(name) for name in self.milliseconds},
            "rounds": len(next(iter(self.milliseconds.values()))),
        }


def measure(
    programs: dict[str, Callable[[np.ndarray], Any]],
    images: Sequence[np.ndarray],
    *,
    rounds: int = 40,
    seconds: float = 20.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Speeds:
    """Time the programs in turn.

    Args:
        programs: by name; each labels uint8 RGB ``[H, W, 3]``.
        images: taken in turn, at least one.
        rounds: at most so many, after three that are not counted.
        seconds: no round begins later than this, once five are done.
        clock: in seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in programs}
    began = clock()
    for number in range(-_WARM, rounds):
        if number >= LEAST_ROUNDS and clock() - began > seconds:
            break
        image = images[number % len(images)]
        for name, labels in programs.items():
            start = clock()
            labels(image)
            if number >= 0:
                taken[name].append(1000 * (clock() - start))
    return Speeds({name: tuple(values) for name, values in taken.items()})
