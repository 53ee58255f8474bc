"""Percentiles, drift, order and limits, by a clock that only moves when it is told to."""

import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.bench.measuring import Contestant, drift, interleaved, measure, percentile, summary, turned

TIMES = st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=60)


class FakeClock:
    """Seconds that pass by :meth:`work` alone."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float, name: str = "") -> None:
        self.now += seconds
        self.log.append(name)

    def contestant(self, name: str, seconds: float = 1.0) -> Contestant:
        return Contestant({"all": lambda value: self.work(seconds, name)})


@given(TIMES, st.floats(0, 100))
def test_percentiles_are_numpys(values, q):
    assert percentile(values, q) == pytest.approx(float(np.percentile(values, q)), rel=1e-9)


@given(TIMES)
def test_a_summary_holds_three_percentiles_and_the_count(values):
    p50, p90, p99 = (float(np.percentile(values, q)) for q in (50, 90, 99))
    found = summary(values)
    assert (found.p50, found.p90, found.p99) == pytest.approx((p50, p90, p99), rel=1e-9)
    assert found.count == len(values)


@given(st.integers(1, 6))
def test_in_as_many_rounds_as_there_are_contestants_each_stands_once_in_each_place(count):
    names = [str(number) for number in range(count)]
    orders = [turned(names, number) for number in range(count)]
    for place in range(count):
        assert sorted(order[place] for order in orders) == names


@given(st.integers(1, 6), st.integers(0, 40))
def test_who_follows_whom_never_changes(count, number):
    names = [str(one) for one in range(count)]
    order = turned(names, number)
    assert all(int(after) == (int(before) + 1) % count for before, after in pairwise(order))


def test_plain_measurements_are_taken_in_turned_order():
    called = []
    contestants = {name: lambda name=name: called.append(name) or float(len(called)) for name in "ab"}
    found = interleaved(contestants, 3)
    assert "".join(called) == "abbaab"
    assert found == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def thirds_by_numpy(times: list[float]) -> tuple[float, bool]:
    """The drift rule once more, in numpy."""
    third = len(times) // 3
    first, last = np.array(times[:third]), np.array(times[len(times) - third :])
    ratio = float(np.median(last) / np.median(first))
    low_first, high_first = np.percentile(first, [25, 75])
    low_last, high_last = np.percentile(last, [25, 75])
    overlap = max(low_first, low_last) <= min(high_first, high_last)
    return ratio, bool(abs(ratio - 1) > 0.1 and not overlap)


@given(st.lists(st.floats(1, 3), min_size=9, max_size=40), st.floats(-0.02, 0.05))
def test_drift_is_judged_by_the_stated_rule(values, slope):
    times = [value * (1 + slope * number) for number, value in enumerate(values)]
    ratio, drifted = thirds_by_numpy(times)
    found = drift(times)
    assert found is not None
    assert found.ratio == pytest.approx(ratio, rel=1e-9)
    if abs(abs(ratio - 1) - 0.1) > 1e-9:
        assert found.drifted == drifted


def has_drifted(times: list[float]) -> bool:
    found = drift(times)
    assert found is not None
    return found.drifted


@pytest.mark.parametrize("factor", [1.3, 0.7])
def test_times_that_rise_or_fall_have_drifted(factor):
    times = [10.0, 10.1, 9.9, 10.0, 10.0, 10.0, 10.0 * factor, 10.1 * factor, 9.9 * factor]
    assert has_drifted(times)


def test_a_constant_time_has_not_drifted():
    assert not has_drifted([5.0] * 30)


def test_noise_that_covers_the_difference_is_no_drift():
    first, last = [8.0, 10.0, 14.0, 20.0], [9.0, 12.0, 15.0, 21.0]
    assert statistics.median(last) / statistics.median(first) > 1.1
    assert not has_drifted([*first, *first, *last])


def test_one_late_outlier_is_no_drift():
    assert not has_drifted([5.0] * 29 + [500.0])


def test_fewer_than_nine_times_are_not_judged():
    assert drift([1.0] * 4 + [9.0] * 4) is None


def test_every_counted_run_follows_one_uncounted_run_of_the_same():
    clock = FakeClock()
    measure({name: clock.contestant(name) for name in "ab"}, rounds=2, warm_up=1, clock=clock)
    assert "".join(clock.log) == "ab" + "aabb" + "bbaa"


def test_each_contestant_warms_up_before_the_first_round():
    clock = FakeClock()
    measure({name: clock.contestant(name) for name in "ab"}, rounds=1, warm_up=3, clock=clock)
    assert "".join(clock.log) == "aaabbb" + "aabb"


def test_stages_are_timed_apart_and_add_up_to_the_whole():
    clock = FakeClock()
    stages = {"first": lambda value: clock.work(0.25) or value + 1, "second": lambda value: clock.work(0.5) or value}
    found = measure({"a": Contestant(stages, given=1)}, rounds=4, clock=clock).times["a"]
    assert found.stages == {"first": (250.0,) * 4, "second": (500.0,) * 4}
    assert found.total == (750.0,) * 4


def test_a_stage_takes_what_the_one_before_gave():
    stages = {"first": lambda value: value + 1, "second": lambda value: value * 10}
    assert Contestant(stages, given=1).run() == 20


def test_a_device_is_waited_for_within_the_stage_that_used_it():
    clock = FakeClock()
    pending: list[float] = []

    def wait() -> None:
        while pending:
            clock.work(pending.pop())

    stages = {"quick call": lambda value: pending.append(0.75), "later": lambda value: clock.work(0.25)}
    found = measure({"a": Contestant(stages, synchronise=wait)}, rounds=1, clock=clock).times["a"]
    assert found.stages == {"quick call": (750.0,), "later": (250.0,)}


def test_no_round_begins_after_the_wanted_seconds_once_there_are_enough():
    clock = FakeClock()
    found = measure({"a": clock.contestant("a")}, rounds=100, seconds=7.0, least=2, warm_up=1, clock=clock)
    # A round is an uncounted run and a counted one, two seconds; after the fourth eight have passed.
    assert (found.rounds, found.stopped) == (4, "seconds")


def test_the_least_rounds_are_measured_however_long_they_take():
    clock = FakeClock()
    found = measure({"a": clock.contestant("a", 50.0)}, rounds=100, seconds=7.0, least=5, clock=clock)
    assert found.rounds == 5


def test_the_number_of_rounds_is_never_exceeded():
    clock = FakeClock()
    found = measure({"a": clock.contestant("a")}, rounds=3, seconds=1e9, clock=clock)
    assert (found.rounds, found.stopped, found.times["a"].summary.count) == (3, "rounds", 3)


def test_a_limit_gives_up_the_round_at_hand_for_all():
    clock = FakeClock()
    contestants = {name: clock.contestant(name) for name in "ab"}
    found = measure(contestants, rounds=100, warm_up=1, limit=2 + 4 + 2, clock=clock)
    assert (found.rounds, found.stopped) == (1, "limit")
    assert {len(times.total) for times in found.times.values()} == {1}


def test_a_limit_that_warming_up_uses_up_leaves_one_run_of_each():
    clock = FakeClock()
    contestants = {name: clock.contestant(name, 10.0) for name in "ab"}
    found = measure(contestants, rounds=100, warm_up=3, limit=1.0, clock=clock)
    assert "".join(clock.log) == "ab" + "ab"
    assert (found.rounds, found.stopped) == (1, "limit")


def test_ratios_are_those_of_medians():
    clock = FakeClock()
    lengths = iter([9.0, 9.0, 1.0, 9.0, 2.0, 9.0, 6.0])  # one to warm up; every second one counts
    uneven = Contestant({"all": lambda value: clock.work(next(lengths))})
    found = measure({"a": uneven, "b": clock.contestant("b", 4.0)}, rounds=3, warm_up=1, clock=clock)
    assert found.ratio("a", "b") == pytest.approx(2.0 / 4.0)


def test_all_that_is_measured_is_told_as_it_goes():
    clock, told = FakeClock(), []
    measure({"a": clock.contestant("a")}, rounds=2, clock=clock, told=lambda done, rounds: told.append((done, rounds)))
    assert told == [(1, 2), (2, 2)]
