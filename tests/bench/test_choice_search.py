"""The front, the one to take, and what time is spent on, against plain definitions and a clock that is told to move."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.bench.choice_search import (
    COARSE_SHARE,
    ENOUGH_ROUNDS,
    LATE,
    Standing,
    dominator,
    explore,
    front,
    nearest_to,
    recommended,
    survivors,
)
from featherseg.bench.measuring import Contestant
from featherseg.errors import FeathersegError

# Few different values, so that equals are common.
PAIRS = st.lists(st.tuples(st.integers(1, 9), st.none() | st.integers(40, 48)), min_size=1, max_size=14)
WANTED = st.integers(0, 10).map(lambda number: number + 0.5)


def standings(pairs) -> list[Standing]:
    return [Standing(str(number), float(time), score) for number, (time, score) in enumerate(pairs)]


def undominated(those: list[Standing]) -> set[str]:
    """The front by its definition: every one is held against every other."""
    found = set()
    for one in those:
        beaten = any(
            other.accuracy is not None
            and one.accuracy is not None
            and other.accuracy >= one.accuracy
            and other.milliseconds <= one.milliseconds
            and (other.accuracy, other.milliseconds) != (one.accuracy, one.milliseconds)
            for other in those
        )
        if one.accuracy is not None and not beaten:
            found.add(one.name)
    return found


@given(PAIRS)
def test_the_front_is_what_none_dominates(pairs):
    those = standings(pairs)
    found = front(those)
    assert {one.name for one in found} == undominated(those)
    assert [one.milliseconds for one in found] == sorted(one.milliseconds for one in found)


@given(PAIRS)
def test_whoever_is_not_on_the_front_is_told_who_stands_before(pairs):
    those = standings(pairs)
    by_name = {one.name: one for one in those}
    on_front = undominated(those)
    for one in those:
        told = dominator(one, those)
        assert (told is None) == (one.name in on_front or one.accuracy is None)
        if told is not None:
            better = by_name[told]
            assert told in on_front
            assert better.milliseconds <= one.milliseconds
            assert (better.accuracy or 0, -better.milliseconds) > (one.accuracy or 0, -one.milliseconds)


@given(PAIRS, WANTED)
def test_the_one_to_take_is_the_most_accurate_of_those_in_time(pairs, wanted):
    those = standings(pairs)
    meeting = [one for one in those if one.accuracy is not None and one.milliseconds <= wanted]
    found = recommended(those, wanted)
    if not meeting:
        assert found is None
        return
    best = max(meeting, key=lambda one: (one.accuracy, -one.milliseconds))
    assert found is not None
    assert (found.accuracy, found.milliseconds) == (best.accuracy, best.milliseconds)


@given(PAIRS)
def test_the_nearest_is_the_fastest_of_known_accuracy(pairs):
    those = standings(pairs)
    known = [one.milliseconds for one in those if one.accuracy is not None]
    found = nearest_to(those)
    assert (found and found.milliseconds) == (min(known) if known else None)


def test_an_unknown_accuracy_is_never_taken_however_fast():
    those = [Standing("unknown", 1.0, None), Standing("known", 5.0, 50.0)]
    assert [one.name for one in front(those)] == ["known"]
    assert recommended(those, 2.0) is None
    assert dominator(those[1], those) is None


@given(PAIRS, st.integers(1, 14), WANTED)
def test_halving_keeps_the_whole_front_and_as_many_as_were_asked_for(pairs, count, wanted):
    those = standings(pairs)
    known = [one for one in those if one.accuracy is not None]
    kept = survivors(those, count, wanted)
    assert undominated(those) <= set(kept)
    if known:
        assert len(kept) == min(len(known), max(count, len(undominated(those))))
        assert set(kept) <= {one.name for one in known}


@given(PAIRS, st.integers(1, 14), WANTED)
def test_whoever_is_put_aside_is_further_from_the_front_than_whoever_is_kept(pairs, count, wanted):
    those = [one for one in standings(pairs) if one.accuracy is not None]

    def short_of_the_front(one: Standing) -> float:
        score = one.accuracy or 0
        return one.milliseconds / min(rival.milliseconds for rival in those if (rival.accuracy or 0) >= score)

    kept = survivors(those, count, wanted) if those else []
    aside = [short_of_the_front(one) for one in those if one.name not in kept]
    stayed = [short_of_the_front(one) for one in those if one.name in kept]
    assert max(stayed, default=1.0) <= min(aside, default=float("inf"))


def test_among_equals_those_nearest_to_the_wanted_time_are_kept():
    # "a" is the front; each of the others would have to become twice as fast.
    those = [Standing("a", 1.0, 9.0), Standing("b", 2.0, 9.0), Standing("c", 2.0, 5.0)]
    slow = [Standing("d", 40.0, 20.0), Standing("e", 80.0, 20.0), Standing("f", 80.0, 19.0)]
    assert set(survivors([*those, *slow], 3, 90.0)) == {"a", "d", "e"}
    assert set(survivors([*those, *slow], 3, 1.5)) == {"a", "d", "b"}


def test_where_no_accuracy_is_known_the_fastest_are_kept():
    those = [Standing("slow", 9.0, None), Standing("fast", 1.0, None), Standing("middle", 3.0, None)]
    assert survivors(those, 2, 1.0) == ["fast", "middle"]


@dataclass
class Workshop:
    """Candidates that take the seconds they are told to take, by a clock that nothing else moves."""

    seconds: dict[str, float]
    opening: float = 0.0
    now: float = 50.0
    load: Callable[[float], float] = lambda now: 1.0
    runs: dict[str, int] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def candidates(self):
        return {name: (lambda name=name: self.open(name)) for name in self.seconds}

    def open(self, name: str) -> Contestant:
        self.now += self.opening
        self.opened.append(name)

        def run(given: object) -> None:
            self.now += self.seconds[name] * self.load(self.now)
            self.runs[name] = self.runs.get(name, 0) + 1

        return Contestant({"all": run})

    def explore(self, accuracies, wanted=10.0, limit=1e9, **more):
        return explore(
            self.candidates(), lambda times, until: accuracies, wanted, limit=limit, clock=self.clock, **more
        )


@given(PAIRS, WANTED)
def test_with_time_enough_the_search_ends_at_the_true_front_and_the_true_best(pairs, wanted):
    those = standings(pairs)
    shop = Workshop({one.name: one.milliseconds / 1000 for one in those})
    found = shop.explore({one.name: one.accuracy for one in those}, wanted)
    assert {one.name for one in front(found.final)} == undominated(those)
    best = recommended(those, wanted)
    taken = recommended(found.final, wanted)
    assert (best and (best.accuracy, best.milliseconds)) == (
        taken and (taken.accuracy, pytest.approx(taken.milliseconds))
    )
    assert not found.left_out
    for name in undominated(those):
        assert len(found.times[name]) >= ENOUGH_ROUNDS


@given(
    st.lists(st.floats(0.01, 5.0), min_size=1, max_size=8), st.floats(0.0, 5.0), st.floats(0.5, 60.0), st.integers(0, 2)
)
def test_the_limit_is_overrun_by_one_step_at_most(seconds, opening, limit, known):
    names = [str(number) for number in range(len(seconds))]
    shop = Workshop(dict(zip(names, seconds, strict=True)), opening)
    began = shop.now
    found = shop.explore({name: float(number) for number, name in enumerate(names[:known])}, limit=limit)
    coarse_of_one = opening + (2 + 2) * max(seconds)  # two runs to warm up, one uncounted and one counted
    one_round = 3 * sum(seconds)  # of everybody: a warm-up each, then an uncounted and a counted run
    assert found.seconds == pytest.approx(shop.now - began)
    assert found.seconds <= limit + max(coarse_of_one, one_round)
    assert set(found.times) | set(found.left_out) == set(names)


def test_candidates_that_the_time_does_not_suffice_for_are_named():
    shop = Workshop({"a": 1.0, "b": 1.0, "c": 1.0}, opening=10.0)
    found = shop.explore({"a": 1.0}, limit=20.0)
    assert found.left_out == {"b": LATE, "c": LATE}
    assert shop.opened == ["a"]
    assert len(found.times["a"]) >= 1


def test_the_first_candidate_is_timed_however_late_it_is():
    found = Workshop({"a": 30.0}, opening=30.0).explore({"a": 1.0}, limit=1e-3)
    assert found.times == {"a": [pytest.approx(30_000)]}


def test_candidates_are_opened_in_the_order_they_are_given_in():
    shop = Workshop({"b": 0.1, "a": 0.2, "c": 0.3})
    shop.explore({}, limit=100.0)
    assert shop.opened == ["b", "a", "c"]


def test_a_candidate_that_cannot_be_opened_is_left_out_with_its_reason_and_the_others_go_on():
    shop = Workshop({"good": 0.01})

    def fail() -> Contestant:
        raise FeathersegError("its runtime is missing")

    candidates = {"bad": fail, **shop.candidates()}
    found = explore(candidates, lambda times, until: {"good": 1.0}, 10.0, limit=5.0, clock=shop.clock)
    assert found.left_out == {"bad": "its runtime is missing"}
    assert list(found.times) == ["good"]


def test_the_front_is_run_more_often_than_what_is_hopeless():
    shop = Workshop({"good": 0.01, "hopeless": 0.02, "worse": 0.03, "worst": 0.04})
    shop.explore({"good": 9.0, "hopeless": 3.0, "worse": 2.0, "worst": 1.0}, limit=20.0)
    assert shop.runs["good"] > 10 * shop.runs["worst"]


def test_work_that_only_some_were_opened_beside_decides_nothing():
    # Ten times as slow while "fast" is opened, and as it should be from "slow" on.
    shop = Workshop({"fast": 0.01, "slow": 0.02}, load=lambda now: 10.0 if now < 50.3 else 1.0)
    found = shop.explore({"fast": 9.0, "slow": 9.0}, limit=20.0)
    assert [one.name for one in front(found.final)] == ["fast"]
    assert found.final[0].milliseconds == pytest.approx(10.0)


@given(st.floats(50.0, 53.0))
def test_one_run_that_other_work_delays_decides_nothing(moment):
    # The run that begins in these five milliseconds takes fifty times as long as it should.
    shop = Workshop(
        {"a": 0.01, "b": 0.015, "c": 0.02}, load=lambda now: 50.0 if moment <= now < moment + 0.005 else 1.0
    )
    found = shop.explore({"a": 9.0, "b": 9.0, "c": 8.0}, limit=60.0)
    assert [one.name for one in front(found.final)] == ["a"]
    assert {found.dominator(name) for name in "bc"} == {"a"}


def test_the_unknown_are_timed_coarsely_and_no_further():
    shop = Workshop({"known": 0.01, "unknown": 0.001})
    found = shop.explore({"known": 1.0}, limit=20.0)
    assert len(found.times["unknown"]) == 3
    assert found.accuracies == {"known": 1.0, "unknown": None}


def test_the_judge_is_asked_once_with_all_times_and_an_end_before_the_limit():
    shop = Workshop({"a": 0.01, "b": 0.02})
    asked = []

    def judge(times, until):
        asked.append(({name: len(taken) for name, taken in times.items()}, until - shop.now))
        shop.now += 5.0
        return {"b": 7.0}

    began = shop.now
    found = explore(shop.candidates(), judge, 100.0, limit=10.0, clock=shop.clock)
    ((times, left),) = asked
    assert times == {"a": 1, "b": 1}
    assert 0 < left < 10.0
    assert shop.now - began <= 10.0 + 1.0
    assert [one.name for one in front(found.final)] == ["b"]
    assert len(found.times["b"]) > len(found.times["a"])


def test_without_time_for_more_than_the_coarse_pass_its_times_stand():
    shop = Workshop({"a": 1.0})
    found = shop.explore({"a": 1.0}, limit=9.0 * COARSE_SHARE)
    assert len(found.times["a"]) >= 1
    assert recommended(found.final, 1000.0) is not None
