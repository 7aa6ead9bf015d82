"""Threads with a deadline: work that takes too long is given up, and its thread replaced.

Python cannot end a thread. A thread that is given up goes on, but nobody waits for it; it does not
keep its process from ending. `given_up` tells how many there are, so that the process can be
replaced.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_SLICE = 0.5
"""Seconds between two looks at what is timed."""

_here = threading.local()
_lost: list[threading.Thread] = []


class OverdueError(Exception):
    """Timed work took longer than its deadline."""


@dataclass(eq=False)
class Call(Generic[T]):
    """A call that a `Crew` makes or has made.

    It does not know its work: that holds images, and often what holds the call.

    Attributes
    ----------
    future : Future
        Its result.
    began : float or None
        When its timed part began, on the monotonic clock; None outside of it.
    thread : Thread or None
        The thread that makes it; None before and after.
    """

    future: Future[T] = field(default_factory=Future)
    began: float | None = None
    thread: threading.Thread | None = None

    def is_overdue(self, seconds: float) -> bool:
        """Return whether the timed part has taken longer than this."""
        began = self.began
        return began is not None and time.monotonic() - began > seconds

    def make(self, work: Callable[[], T]) -> None:
        """Make the call in this thread."""
        _here.call, self.thread = self, threading.current_thread()
        try:
            with suppress(InvalidStateError):  # given up in the meantime
                try:
                    self.future.set_result(work())
                except BaseException as error:
                    self.future.set_exception(error)
        finally:
            _here.call = self.thread = None
            del self  # an error's traceback holds this frame


@contextmanager
def timed_part() -> Iterator[None]:
    """Time a block of the current thread's call, for `is_overdue`; nothing outside of a call.

    The time of a block inside another one does not count for the outer one.
    """
    call: Call[Any] | None = getattr(_here, "call", None)
    if call is None:
        yield
        return
    outer, call.began = call.began, time.monotonic()
    began = call.began
    try:
        yield
    finally:
        call.began = None if outer is None else outer + time.monotonic() - began


@contextmanager
def untimed_part() -> Iterator[None]:
    """Do not time a block inside a timed part; parts inside of it have a time of their own."""
    call: Call[Any] | None = getattr(_here, "call", None)
    if call is None or call.began is None:
        yield
        return
    passed, call.began = time.monotonic() - call.began, None
    try:
        yield
    finally:
        call.began = time.monotonic() - passed


class Crew:
    """A fixed number of threads that make calls in the order of submission.

    Parameters
    ----------
    threads : int
        Number of threads.
    name : str
        Prefix of their names.

    Examples
    --------
    >>> crew = Crew(2, "adder")
    >>> crew.submit(lambda: 1 + 1).future.result()
    2
    >>> crew.close()
    """

    def __init__(self, threads: int, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Call[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        for _ in range(threads):
            self._start()

    def submit(self, work: Callable[[], T]) -> Call[T]:
        """Let a thread call a function."""
        call: Call[T] = Call()
        self._calls.put((call, work))
        return call

    def give_up(self, call: Call[Any]) -> None:
        """Replace the thread that makes a call; the result of the call is ignored."""
        thread = call.thread
        if thread in self._threads:
            self._threads.remove(thread)
            _lost.append(thread)
            self._start()

    def close(self) -> None:
        """End the threads once they have made their calls; drop the calls that wait."""
        self._is_closed = True
        self._calls.put(None)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            if not self._is_closed:
                call, work = asked
                call.make(work)
                del call, work
            del asked  # not held until the next one comes
            if threading.current_thread() not in self._threads:
                return  # given up and replaced
        self._calls.put(None)  # for the next one, be it one that was given up when it was done


def await_any(futures: list[Future[Any]], calls: list[Call[Any]]) -> None:
    """Wait until one of some futures is done, at most for a moment.

    A process that was stopped, or got no processor, is not late: the time that it lost is not
    counted in the timed parts of `calls`.
    """
    before = time.monotonic()
    wait(futures, _SLICE, return_when="FIRST_COMPLETED")
    overslept = time.monotonic() - before - 2 * _SLICE
    if overslept > 0:
        for call in calls:
            if call.began is not None:
                call.began += overslept


def within(seconds: float | Callable[[], float], work: Callable[[], T]) -> T:
    """Call a function in a thread of its own, and wait for it at most some seconds.

    The seconds may be a function, if they depend on what the work is doing.

    Raises
    ------
    OverdueError
        If its timed part takes longer.

    Examples
    --------
    >>> within(5.0, lambda: 1 + 1)
    2
    """
    crew = Crew(1, "within")
    call = crew.submit(work)
    try:
        while not call.future.done():
            if call.is_overdue(seconds() if callable(seconds) else seconds):
                crew.give_up(call)
                raise OverdueError
            await_any([call.future], [call])
        return call.future.result()
    finally:
        crew.close()
        del call  # an error's traceback holds this frame


def given_up() -> int:
    """Return how many threads of this process were given up and still work."""
    _lost[:] = [thread for thread in _lost if thread.is_alive()]
    return len(_lost)
