"""Work on a stream in threads: while one item is drawn, the next is labelled and the one after it decoded.

Choices worth knowing:

- A thread reads the source, and one runs each stage; between two of them lies a queue of a few places. Who is faster
  waits, so that as many items are in memory as there are places and threads, however long the stream is.
- Items come out in the order in which they went in; each stage works on one at a time.
- A source that does not wait, as a camera, can be read with ``newest``: a new item then takes the place of the one that
  waits for the first stage. That is the one place where anything is ever left out, and it is counted.
- An error comes out behind the items before it, in the thread that takes them. Leaving the ``with`` block ends all
  threads, and no signal breaks that off: a thread that still works when the program ends brings it down. So a stage may
  finish what it has, however slow it is within reason; the source is waited for briefly, since it may never answer.
- Python's threads suffice, since decoding, networks and drawing are done in libraries that let go of its lock.
"""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread, current_thread, main_thread
from typing import Any

DEPTH = 2
"""Places of each queue: one is filled while the other is emptied."""

_WAKE_EVERY = 0.2
"""Seconds after which a waiting thread looks up, so that Ctrl-C reaches it on every system."""

_PATIENCE = 5.0
"""Seconds that the thread of the source may take to end; a camera that gives nothing may hold it for ever."""

_PATIENCE_AT_WORK = 60.0
"""Seconds that the threads of the stages may take, which end with the item that each has: a network's may take long."""


@contextmanager
def held_off() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is left; the first that came is then raised.

    Python hands signals to its main thread alone, so that in any other there is nothing to do.
    """
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if current_thread() is not main_thread() or None in before.values():  # None: a handler that is not Python's
        yield
        return
    try:
        for number in before:
            signal.signal(number, lambda received, _: came.append(received))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


class _Closed(Exception):
    """Nobody takes further items, or there are none."""


class Buffer:
    """A queue between two threads with a fixed number of places.

    Args:
        depth: how many.
        newest: an item that finds no place takes that of the item which has waited longest, instead of waiting itself.

    Attributes:
        dropped: items that lost their place.
    """

    def __init__(self, depth: int = DEPTH, *, newest: bool = False) -> None:
        if depth < 1:
            raise ValueError(f"a queue of {depth} places passes nothing on")
        self.depth, self.newest, self.dropped = depth, newest, 0
        self._items: deque[Any] = deque()
        self._changed = Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def put(self, item: Any) -> None:
        """Add an item, when there is a place; raises ``_Closed`` when nobody takes any further."""
        with self._changed:
            while not self._closed and len(self._items) >= self.depth:
                if self.newest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait(_WAKE_EVERY)
            if self._closed:
                raise _Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> Any:
        """The item that has waited longest; raises ``_Closed``, or the error that ended the stream, behind the last."""
        with self._changed:
            while not self._items and not self._ended and not self._closed:
                self._changed.wait(_WAKE_EVERY)
            if self._items and not self._closed:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None and not self._closed:
                raise self._error
            raise _Closed

    def end(self, error: BaseException | None = None) -> None:
        """Say that no further item comes, and perhaps why."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Say that no further item is taken."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


class Pipeline:
    """A stream through stages that overlap; iterate over it within a ``with`` block.

    Args:
        source: the items; iterated in a thread of its own.
        stages: functions of an item, each in a thread of its own, in this order.
        depth: places of the queue behind each of them.
        newest: the queue behind the source has one place, and a new item takes it from the one that waits.
    """

    def __init__(
        self,
        source: Iterable[Any],
        stages: Iterable[Callable[[Any], Any]] = (),
        *,
        depth: int = DEPTH,
        newest: bool = False,
    ) -> None:
        self._buffers = [Buffer(1, newest=True) if newest else Buffer(depth)]
        self._threads = [Thread(target=_read, args=(source, self._buffers[0]), daemon=True)]
        for stage in stages:
            self._buffers.append(Buffer(depth))
            self._threads.append(Thread(target=_work, args=(*self._buffers[-2:], stage), daemon=True))

    @property
    def dropped(self) -> int:
        """How many items gave way to newer ones so far."""
        return self._buffers[0].dropped

    def __enter__(self) -> "Pipeline":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with held_off():
            for buffer in self._buffers:
                buffer.close()
            source, *stages = self._threads
            latest = time.monotonic() + _PATIENCE_AT_WORK
            for thread in stages:
                thread.join(max(0.0, latest - time.monotonic()))
            source.join(_PATIENCE)

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                item = self._buffers[-1].get()
            except _Closed:
                return
            yield item
            del item  # or it stays in memory beside the next


def _read(source: Iterable[Any], outbox: Buffer) -> None:
    try:
        for item in source:
            outbox.put(item)
            del item
    except _Closed:
        return
    except BaseException as error:
        outbox.end(error)
    else:
        outbox.end()


def _work(inbox: Buffer, outbox: Buffer, stage: Callable[[Any], Any]) -> None:
    try:
        while True:
            try:
                item = inbox.get()
            except _Closed:
                break
            made = stage(item)
            del item
            outbox.put(made)
            del made
    except _Closed:
        inbox.close()
    except BaseException as error:
        inbox.close()
        outbox.end(error)
    else:
        outbox.end()
