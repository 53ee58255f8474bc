"""Timing what competes: interleaved rounds, percentiles, drift. Anything that runs in stages can be a contestant.

Choices worth knowing:

- Rounds are interleaved and their order turns by one (A B C, B C A, C A B): a machine that slows down slows all of
  them down, and nobody always runs behind the same neighbour.
- Before each counted run a contestant runs once uncounted: in use it follows upon itself, with its own data in the
  caches and its own threads awake, and not upon its rivals.
- A contestant's stages are timed by the same marks as its whole, so that they add up to it; a device that computes on
  after its call has returned is waited for at every mark.
- **The drift rule**: a contestant has drifted if the medians of the first and the last third of its times differ by
  more than a tenth of the first's, and the middle halves of the two thirds do not overlap. Below nine rounds nothing is
  said.
- Percentiles are those of numpy's default: linear between the two nearest. With fewer than a hundred times p99 lies
  next to the largest of them; the count says so.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import floor
from typing import Any, Literal

Clock = Callable[[], float]
Stopped = Literal["rounds", "seconds", "limit"]
LEAST_FOR_DRIFT = 9
DRIFTED = 0.1


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile, 0 to 100, of at least one value, linear between the two nearest."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * q / 100
    below = min(floor(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def turned(names: Sequence[str], number: int) -> list[str]:
    """The order of round ``number``, from 0: every round begins with the one behind its predecessor's first.

    >>> turned(["a", "b", "c"], 1)
    ['b', 'c', 'a']
    """
    shift = number % len(names) if names else 0
    return [*names[shift:], *names[:shift]]


def interleaved(
    contestants: Mapping[str, Callable[[], float]], rounds: int, told: Callable[[str], None] = lambda line: None
) -> dict[str, list[float]]:
    """Let every contestant give one measurement a round, in the order of :func:`turned`.

    Args:
        contestants: name to a function that gives one measurement.
        rounds: at least 1.
        told: gets a line of text after each round.
    """
    names = list(contestants)
    measured: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in turned(names, number):
            measured[name].append(contestants[name]())
        told(f"round {number + 1}/{rounds}: " + ", ".join(f"{name} {measured[name][-1]:.2f}" for name in names))
    return measured


@dataclass(frozen=True)
class Drift:
    """How the last third of the times stands to the first.

    Attributes:
        ratio: median of the last third by that of the first.
        drifted: by the rule of this module.
    """

    ratio: float
    drifted: bool


def drift(times: Sequence[float]) -> Drift | None:
    """Judge times in the order they were taken; None for fewer than nine."""
    if len(times) < LEAST_FOR_DRIFT:
        return None
    third = len(times) // 3
    first, last = times[:third], times[-third:]
    ratio = statistics.median(last) / statistics.median(first)
    apart = percentile(last, 25) > percentile(first, 75) or percentile(last, 75) < percentile(first, 25)
    return Drift(ratio, apart and abs(ratio - 1) > DRIFTED)


@dataclass(frozen=True)
class Summary:
    """Percentiles of times in milliseconds, and how many there are."""

    p50: float
    p90: float
    p99: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """``{"p50_ms", "p90_ms", "p99_ms", "count"}``."""
        return {f"p{q}_ms": round(getattr(self, f"p{q}"), 4) for q in (50, 90, 99)} | {"count": self.count}


def summary(milliseconds: Sequence[float]) -> Summary:
    """Summarise at least one time."""
    p50, p90, p99 = (percentile(milliseconds, q) for q in (50, 90, 99))
    return Summary(p50, p90, p99, len(milliseconds))


@dataclass(frozen=True)
class Contestant:
    """Something to be timed, from what it is given to its last stage's result.

    Attributes:
        stages: name to a function of what the stage before gave, the first one's of ``given``. At least one.
        given: to the first stage.
        synchronise: waits until all work is done; for devices whose calls return before.
        about: what a report says of it beside its times, JSON-ready.
    """

    stages: Mapping[str, Callable[[Any], Any]]
    given: Any = None
    synchronise: Callable[[], object] = lambda: None
    about: Mapping[str, Any] = field(default_factory=dict)

    def run(self) -> Any:
        """What the last stage gives."""
        value = self.given
        for stage in self.stages.values():
            value = stage(value)
        self.synchronise()
        return value

    def timed(self, clock: Clock = time.perf_counter) -> dict[str, float]:
        """Seconds by stage of one run."""
        self.synchronise()
        value, taken = self.given, {}
        before = clock()
        for name, stage in self.stages.items():
            value = stage(value)
            self.synchronise()
            now = clock()
            taken[name] = now - before
            before = now
        return taken


@dataclass(frozen=True)
class Times:
    """The times of one contestant, in milliseconds, in the order they were taken."""

    total: tuple[float, ...]
    stages: Mapping[str, tuple[float, ...]]

    @property
    def summary(self) -> Summary:
        return summary(self.total)

    @property
    def drift(self) -> Drift | None:
        return drift(self.total)

    def to_dict(self) -> dict[str, Any]:
        """Percentiles of the whole, of each stage under ``stages``, and the drift."""
        judged = self.drift
        return self.summary.to_dict() | {
            "stages": {name: summary(taken).to_dict() for name, taken in self.stages.items()},
            "drift": None if judged is None else asdict(judged),
        }


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found.

    Attributes:
        times: by contestant, as many for each.
        rounds: that were counted.
        seconds: that all of it took, warming up included.
        stopped: what ended it: the number of rounds, the time that was wanted, or the limit.
    """

    times: Mapping[str, Times]
    rounds: int
    seconds: float
    stopped: Stopped

    def ratio(self, name: str, by: str) -> float:
        """Median of ``name`` by the median of ``by``."""
        return self.times[name].summary.p50 / self.times[by].summary.p50


def measure(
    contestants: Mapping[str, Contestant],
    *,
    rounds: int = 100,
    seconds: float = float("inf"),
    least: int = LEAST_FOR_DRIFT,
    warm_up: int = 3,
    limit: float = float("inf"),
    clock: Clock = time.perf_counter,
    told: Callable[[int, int], None] = lambda done, rounds: None,
) -> Measured:
    """Time all contestants against each other.

    Args:
        contestants: by name, at least one.
        rounds: at most so many.
        seconds: no further round begins once the rounds have taken so long, if there are ``least`` of them.
        least: see ``seconds``.
        warm_up: uncounted runs of each contestant before the first round, at least one.
        limit: hard, in seconds for everything: warming up is cut to one run each, and after the first round the one at
            hand is given up and does not count. It is looked at between two runs.
        clock: seconds from anywhere.
        told: called after each round with its number and ``rounds``.
    """
    if not contestants or rounds < 1:
        raise ValueError("there must be at least one contestant and one round")
    began = clock()
    for contestant in contestants.values():
        contestant.run()
        for _ in range(warm_up - 1):
            if clock() - began >= limit:
                break
            contestant.run()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    started = clock()
    stopped: Stopped = "rounds"
    done = 0
    for number in range(rounds):
        if number >= min(least, rounds) and clock() - started >= seconds:
            stopped = "seconds"
            break
        found = _one_round(contestants, turned(list(contestants), number), number > 0, began + limit, clock)
        if found is None:
            stopped = "limit"
            break
        for name, stages in found.items():
            taken[name].append(stages)
        done = number + 1
        told(done, rounds)
    times = {
        name: Times(
            tuple(1000 * sum(run.values()) for run in runs),
            {stage: tuple(1000 * run[stage] for run in runs) for stage in contestants[name].stages},
        )
        for name, runs in taken.items()
    }
    return Measured(times, done, clock() - began, stopped)


def _one_round(
    contestants: Mapping[str, Contestant], order: Sequence[str], may_end: bool, end: float, clock: Clock
) -> dict[str, dict[str, float]] | None:
    """Each contestant's seconds by stage; None where the limit was reached."""
    found = {}
    for name in order:
        if may_end and clock() >= end:
            return None
        if not may_end and clock() >= end:
            found[name] = contestants[name].timed(clock)
            continue
        contestants[name].run()
        found[name] = contestants[name].timed(clock)
    return found
