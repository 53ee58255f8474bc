"""What the benchmarks share.

Choices worth knowing:

- What is compared is measured in one process, in interleaved rounds: A B C, B C A, C A B. A machine that slows down
  half-way slows all of them down. Medians are reported, and ratios of medians; absolute figures hold for one machine
  only.
- Threads are pinned before anything is measured, and the system's load is recorded before and after: a figure taken
  beside other work says so itself.
- Peak memory is the kernel's own high-water mark (VmHWM), which no sampling can miss; it is reset for each window.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featherseg.bench.environment import load_average
from featherseg.bench.measuring import interleaved
from featherseg.cards import card, write_card

__all__ = ["children", "finish", "interleaved", "load_average", "parser", "peak_mib", "reset_peak", "summary"]


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows the script's docstring and takes ``--card``."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--card", type=Path, metavar="FILE", help="write the figures to this result card")
    return made


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest, rounded to what can be read off."""
    return {name: round(f(values), 3) for name, f in (("median", statistics.median), ("least", min), ("greatest", max))}


def peak_mib(process: int | str = "self") -> float:
    """The high-water mark of a process's resident memory since its start or the last :func:`reset_peak`, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {process} has no VmHWM")


def reset_peak(process: int | str = "self") -> None:
    """Let the high-water mark begin again from the memory in use now."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def children() -> list[int]:
    """The process ids of this process's children."""
    tasks = Path("/proc/self/task").glob("*/children")
    return sorted({int(number) for task in tasks for number in task.read_text().split()})


def finish(
    kind: str, protocol: str, figures: Mapping[str, Any], path: Path | None, load_before: float | None, **more: Any
) -> None:
    """Print the figures, and write the card where one was asked for.

    ``more`` goes into the card: ``seeds``, ``data_fingerprint``, ``notes``, and fields of the benchmark's own.
    """
    width = max(len(name) for name in figures)
    for name, value in figures.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        print(f"{name:{width}}  {value}")
    load = {"before": load_before, "after": load_average()}
    print(f"{'load average':{width}}  {load['before']} before, {load['after']} after")
    if path is None:
        return
    arguments: dict[str, Any] = {"seeds": [], "data_fingerprint": None, **more}
    made = card(kind, protocol=protocol, figures=figures, command=["python", *sys.argv], load_average=load, **arguments)
    print(f"card: {write_card(path, made)}")
