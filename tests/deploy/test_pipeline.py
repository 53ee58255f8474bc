"""Streams through threads: order, number, what waits in memory, what is dropped, and how they end."""

import signal
import threading
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.deploy import pipeline
from featherseg.deploy.pipeline import Buffer, Pipeline, held_off


def alive() -> int:
    return threading.active_count()


@settings(max_examples=30)
@given(st.integers(0, 60), st.integers(0, 4), st.integers(1, 4))
def test_order_and_number_are_kept(count, stages, depth):
    with Pipeline(range(count), [lambda item: item + 1] * stages, depth=depth) as stream:
        assert list(stream) == list(range(stages, count + stages))
    assert stream.dropped == 0


class Item:
    """Something that memory can be counted by."""


@pytest.mark.parametrize(("stages", "depth"), [(1, 1), (2, 2), (3, 4)])
def test_as_many_items_are_in_memory_as_there_are_places_and_threads(stages, depth):
    living: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def source():
        nonlocal most
        for _ in range(80):
            item = Item()
            living.add(item)
            most = max(most, len(living))
            yield item
            del item

    with Pipeline(source(), [lambda item: item] * stages, depth=depth) as stream:
        for item in stream:
            time.sleep(0.001)  # the one who takes is the slowest, so that every queue fills
            del item
    # Every queue's places, one item in each thread, one in the hands of who takes them, and one just made.
    assert depth * (stages + 1) < most <= depth * (stages + 1) + (stages + 1) + 2


def test_stages_work_at_the_same_time():
    meeting = threading.Barrier(3, timeout=5)

    def stage(item):
        if item[0] + item[1] == 2:  # the third of the first stage, the second of the second, the first of the third
            meeting.wait()
        return item[0], item[1] + 1

    source = ((number, 0) for number in range(3))
    with Pipeline(source, [stage] * 3) as stream:
        assert [number for number, _ in stream] == [0, 1, 2]


def test_a_new_item_takes_the_place_of_the_one_that_has_waited_longest():
    buffer = Buffer(2, newest=True)
    for number in range(5):
        buffer.put(number)
    buffer.end()
    assert [buffer.get(), buffer.get()] == [3, 4]
    assert buffer.dropped == 3


def test_what_a_slow_stage_gets_from_a_camera_is_the_newest():
    taken, ten_more = threading.Semaphore(0), threading.Semaphore(0)

    def camera():
        for number in range(31):
            yield number
            if number % 10 == 0:
                if number:
                    ten_more.release()
                taken.acquire(timeout=5)

    seen = []

    def stage(number):
        seen.append(number)
        taken.release()
        if number < 30:
            ten_more.acquire(timeout=5)
        return number

    with Pipeline(camera(), [stage], newest=True) as stream:
        found = list(stream)
    assert found == seen == [0, 10, 20, 30]
    assert stream.dropped == 27


def test_what_came_before_an_error_comes_out_before_it():
    def source():
        yield from range(5)
        raise OSError("the cable")

    found: list[int] = []
    with pytest.raises(OSError, match="the cable"), Pipeline(source(), [lambda item: item]) as stream:
        found.extend(stream)
    assert found == [0, 1, 2, 3, 4]


def test_an_error_of_a_stage_ends_the_stream_and_its_source():
    given_items = []

    def source():
        for number in range(1000):
            given_items.append(number)
            yield number

    def stage(number):
        if number == 3:
            raise ValueError("three")
        return number

    before, found = alive(), list[int]()
    with pytest.raises(ValueError, match="three"), Pipeline(source(), [stage, lambda item: item]) as stream:
        found.extend(stream)
    assert found == [0, 1, 2]
    assert len(given_items) < 20
    assert alive() == before


def test_leaving_early_ends_all_threads():
    before = alive()
    with Pipeline(iter(int, 1), [lambda item: item] * 3) as stream:
        for _, _ in zip(range(5), stream, strict=False):
            pass
    assert alive() == before


def test_a_stage_finishes_what_it_has_though_a_source_is_not_waited_for_so_long(monkeypatch):
    monkeypatch.setattr(pipeline, "_PATIENCE", 0.01)
    began, finished, ended = threading.Event(), [], threading.Event()

    def source():
        yield 7
        ended.wait(20)  # a camera that gives nothing

    def stage(item):
        began.set()
        time.sleep(0.3)
        finished.append(item)
        return item

    before = alive()
    with Pipeline(source(), [stage]):
        began.wait(5)
    found = finished, alive()
    ended.set()
    while alive() > before:
        time.sleep(0.01)
    assert found == ([7], before + 1)


def test_ctrl_c_while_the_threads_are_ended_waits_until_they_are():
    leaving, before, main = threading.Event(), alive(), threading.get_ident()

    def stage(item):
        leaving.wait(5)
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.1)  # the main thread is told meanwhile
        return item

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Pipeline(range(3), [stage]):
            leaving.set()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert alive() == before


def test_signals_change_nothing_in_other_threads():
    handlers = []

    def work():
        with held_off():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_a_queue_without_a_place_is_refused():
    with pytest.raises(ValueError, match="0 places"):
        Buffer(0)
