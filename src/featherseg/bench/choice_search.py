"""Which of many candidates to time when time is short, and which of them to take.

Choices worth knowing:

- **The time of a candidate is its p90**: a frame rate that is met in the median is missed every second frame.
- **The front**: a candidate is dominated if another one is at least as accurate and at least as fast, and better in one
  of the two. Those whose accuracy nobody knows are timed and told of; they dominate nothing, stand on no front and are
  never taken.
- **Coarse pass**: every candidate is opened, warmed up and timed once, one after the other in the order they are given
  in. What the time does not suffice for is named. These times last until there are better ones: the machine may have
  been busy with one candidate and idle with the next.
- **Halving**: all are timed against each other in interleaved rounds; then again and again half of them, and never
  fewer than the whole front, in twice as many rounds. Kept are first those of the front, then those that would have to
  become the fewest times as fast to stand on it; among equals those nearest to the wanted time. Medians decide here,
  since the p90 of a few runs is the slowest of them.
- Candidates are compared by rounds that they all took part in, so that other work on the machine meets all of them
  alike. Whoever is put aside stays behind the one that dominated it there.
- A candidate that was begun in the coarse pass is finished (opened, warmed up, timed once), since runtimes
  compile in their first runs: the limit is looked at between candidates.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log

from featherseg.bench.measuring import Clock, Contestant, measure, percentile
from featherseg.errors import FeathersegError

Q = 90
FIRST_ROUNDS, ENOUGH_ROUNDS, LEAST_FOR_P90 = 3, 100, 10
COARSE_SHARE, JUDGED_SHARE = 0.6, 0.7
"""Of the limit: when the coarse pass ends, and when judging does."""
LATE = "the time limit came first"

Open = Callable[[], Contestant]
Judge = Callable[[Mapping[str, Sequence[float]], float], Mapping[str, float | None]]
"""Finds the accuracies of the candidates that were opened, from their times in ms and the clock's time to end at."""


@dataclass(frozen=True)
class Standing:
    """A candidate as the front sees it: its time in ms, and its accuracy, None where nobody knows it."""

    name: str
    milliseconds: float
    accuracy: float | None


def dominates(one: Standing, other: Standing) -> bool:
    """Whether ``one`` is at least as accurate and fast as ``other``, and better in one of the two."""
    if one.accuracy is None or other.accuracy is None:
        return False
    no_worse = one.accuracy >= other.accuracy and one.milliseconds <= other.milliseconds
    return no_worse and (one.accuracy > other.accuracy or one.milliseconds < other.milliseconds)


def front(standings: Iterable[Standing]) -> list[Standing]:
    """Those of known accuracy that none dominates, the fastest first.

    >>> [one.name for one in front([Standing("a", 9, 70), Standing("b", 5, 60), Standing("c", 7, 50)])]
    ['b', 'a']
    """
    found: list[Standing] = []
    known = [(one, one.accuracy) for one in standings if one.accuracy is not None]
    for one, accuracy in sorted(known, key=lambda pair: (pair[0].milliseconds, -pair[1])):
        best = found[-1].accuracy if found else None
        equal = best == accuracy and found[-1].milliseconds == one.milliseconds
        if best is None or accuracy > best or equal:
            found.append(one)
    return found


def dominator(one: Standing, standings: Iterable[Standing]) -> str | None:
    """The most accurate one of the front that dominates ``one``; None if none does."""
    better = [other for other in front(standings) if dominates(other, one)]
    return better[-1].name if better else None


def recommended(standings: Iterable[Standing], wanted: float) -> Standing | None:
    """The most accurate one that takes at most ``wanted`` ms, the fastest of equals; None where none does."""
    meeting = [one for one in front(standings) if one.milliseconds <= wanted]
    return meeting[-1] if meeting else None


def nearest_to(standings: Iterable[Standing]) -> Standing | None:
    """The fastest one of known accuracy, the most accurate of equals; None where no accuracy is known."""
    found = front(standings)
    return found[0] if found else None


def survivors(standings: Sequence[Standing], count: int, wanted: float) -> list[str]:
    """The ``count`` that are worth more rounds, and all of the front if they are more; see this module's head.

    Where no accuracy is known, the fastest alone is the front.
    """
    known = [one for one in standings if one.accuracy is not None]
    among = known or [Standing(one.name, one.milliseconds, 0.0) for one in standings]
    on_front = {one.name for one in front(among)}

    def worth(one: Standing) -> tuple[bool, float, float]:
        assert one.accuracy is not None
        best = min(
            other.milliseconds for other in among if other.accuracy is not None and other.accuracy >= one.accuracy
        )
        return one.name not in on_front, one.milliseconds / best, abs(log(one.milliseconds / wanted))

    ordered = sorted(among, key=worth)
    return [one.name for one in ordered[: max(count, len(on_front))]]


@dataclass
class Explored:
    """What a search found.

    Attributes:
        times: ms of every candidate that was timed, in the order they were taken.
        accuracies: of the same candidates.
        last: those that took part in the last rounds, among them the front.
        behind: those that were put aside before, each with the one that dominated it; None of unknown accuracy.
        left_out: candidates that were not timed, each with the reason.
        seconds: that the search took.
    """

    times: dict[str, list[float]] = field(default_factory=dict)
    accuracies: dict[str, float | None] = field(default_factory=dict)
    last: list[str] = field(default_factory=list)
    behind: dict[str, str | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def standing(self, name: str, q: float = Q) -> Standing:
        """How a candidate stands by the q-th percentile of its times."""
        return Standing(name, percentile(self.times[name], q), self.accuracies.get(name))

    @property
    def final(self) -> list[Standing]:
        """Those that the front and the one to take are found among."""
        return [self.standing(name) for name in self.last]

    def dominator(self, name: str) -> str | None:
        """The one that a candidate stands behind; None if none does."""
        return self.behind[name] if name in self.behind else dominator(self.standing(name), self.final)


def explore(
    candidates: Mapping[str, Open],
    judge: Judge,
    wanted: float,
    *,
    limit: float,
    coarse_share: float = COARSE_SHARE,
    clock: Clock = time.perf_counter,
    told: Callable[[str], None] = lambda line: None,
) -> Explored:
    """Time candidates for at most ``limit`` seconds.

    Args:
        candidates: name to a function that opens it, the most promising first; at least one. One that raises
            FeathersegError is left out with that reason.
        judge: is asked after the coarse pass; None or no entry of a candidate whose accuracy it does not know.
        wanted: ms that the one to take may need.
        limit: in seconds; the first candidate is timed whatever it is.
        coarse_share: of the limit, when the coarse pass ends.
        clock: seconds from anywhere.
        told: gets a line before each step.
    """
    began = clock()
    found = Explored()
    opened = _coarse(candidates, found, began + coarse_share * limit, clock, told)
    if opened:
        judged = judge({name: tuple(taken) for name, taken in found.times.items()}, began + JUDGED_SHARE * limit)
        found.accuracies = {name: judged.get(name) for name in opened}
    _halving(opened, found, wanted, began + limit, clock, told)
    found.seconds = clock() - began
    return found


def _coarse(
    candidates: Mapping[str, Open], found: Explored, until: float, clock: Clock, told: Callable[[str], None]
) -> dict[str, Contestant]:
    opened: dict[str, Contestant] = {}
    for place, name in enumerate(candidates):
        if opened and clock() >= until:
            found.left_out[name] = LATE
            continue
        told(f"{name} ({place + 1} of {len(candidates)})")
        try:
            contestant = candidates[name]()
            taken = measure({name: contestant}, rounds=1, warm_up=2, clock=clock)
        except FeathersegError as error:
            found.left_out[name] = str(error)
            continue
        opened[name] = contestant
        found.times[name] = list(taken.times[name].total)
    return opened


def _halving(
    opened: Mapping[str, Contestant],
    found: Explored,
    wanted: float,
    until: float,
    clock: Clock,
    told: Callable[[str], None],
) -> None:
    kept, count, rounds = list(opened), len(opened), FIRST_ROUNDS
    found.last = kept
    while kept and clock() < until:
        told(f"{len(kept)} of {len(opened)} against each other, {rounds} rounds")
        left = until - clock()
        seconds = left / 2 if rounds == FIRST_ROUNDS else left
        against = {name: opened[name] for name in kept}
        taken = measure(against, rounds=rounds, seconds=seconds, least=1, warm_up=1, limit=left, clock=clock)
        for name in kept:
            before = [] if rounds == FIRST_ROUNDS else found.times[name]
            found.times[name] = [*before, *taken.times[name].total]
        found.last = kept
        count = max(1, -(-count // 2))
        standings = [found.standing(name, 50) for name in kept]
        stay = survivors(standings, count, wanted)
        if min(len(found.times[name]) for name in stay) >= ENOUGH_ROUNDS or clock() >= until:
            break
        found.behind |= {one.name: dominator(one, standings) for one in standings if one.name not in stay}
        kept, rounds = stay, 2 * rounds
