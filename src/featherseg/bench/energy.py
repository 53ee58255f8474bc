"""Energy, where the machine counts it: the RAPL counters that Linux shows under ``/sys/class/powercap``.

A counter is of a whole processor package: what else runs there is in it, and so is what the package draws at rest.
Machines that have none, virtual ones as a rule, and those that show theirs to root alone give None.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """One package's counter: the file with its microjoules, and the value behind which it begins again at 0."""

    file: Path
    wraps_at: int

    def read(self) -> int:
        return int(self.file.read_text())


def counters(root: Path = POWERCAP) -> list[Counter]:
    """Every package's counter that can be read; parts of packages, which are in those, are left out."""
    found = []
    for folder in sorted(root.glob("intel-rapl:*")):
        if folder.name.count(":") != 1:
            continue
        try:
            counter = Counter(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
            counter.read()
        except (OSError, ValueError):
            continue
        found.append(counter)
    return found


def joules_per_run(
    run: Callable[[], object],
    *,
    seconds: float = 1.0,
    root: Path = POWERCAP,
    clock: Callable[[], float] = time.perf_counter,
) -> float | None:
    """Energy of one run, averaged over as many as ``seconds`` take, at least one; None where it is not counted.

    ``seconds`` is to stay far below what a counter takes to begin again, which is about a minute at its least.
    """
    found = counters(root)
    if not found:
        return None
    try:
        before = [counter.read() for counter in found]
        began, runs = clock(), 0
        while not runs or clock() - began < seconds:
            run()
            runs += 1
        after = [counter.read() for counter in found]
    except (OSError, ValueError):
        return None
    used = sum(
        (late - early) % (counter.wraps_at + 1) for counter, early, late in zip(found, before, after, strict=True)
    )
    return used / 1e6 / runs
