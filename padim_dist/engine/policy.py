"""When a task is given out, done twice, or given up: pure functions of what the driver knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_TASKS_A_WORKER = 3
_LEAST_FINISHED = 3
_TIMES_USUAL = 3.0
_LEAST_SECONDS = 10.0
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Running:
    """A task that a worker is at.

    Attributes
    ----------
    size : int
        Images (or bands) in it.
    seconds : float
        Since its last start.
    copies : int
        How often it runs at this moment.
    """

    size: int
    seconds: float
    copies: int = 1


def window(workers: int, most: int | None = None) -> int:
    """Tasks that are with the scheduler at a time.

    A few for each worker keep it busy; no more, so that neither driver nor scheduler
    grows with the archive. Where the cluster scales itself, by the tasks that wait, the
    window is that of its largest size (`most`).

    Examples
    --------
    >>> window(0), window(2), window(2, most=10)
    (3, 6, 30)
    """
    return _TASKS_A_WORKER * max(workers, most or 1)


def stragglers(running: Sequence[Running], rates: Sequence[float], idle: int) -> list[int]:
    """Which tasks to run a second time, on workers that have nothing else to do.

    A straggler runs alone, for at least ten seconds, and for three times as long as a
    task of its size usually takes; three finished tasks tell what is usual.

    Parameters
    ----------
    running : sequence of Running
        All tasks that have started.
    rates : sequence of float
        Seconds an image of the tasks that are finished.
    idle : int
        Workers without a task.

    Returns
    -------
    list of int
        Places in `running`, the slowest first; at most `idle` of them.

    Examples
    --------
    >>> stragglers([Running(100, 12), Running(100, 31), Running(100, 45, copies=2)], [0.1] * 3, 2)
    [1]
    """
    if len(rates) < _LEAST_FINISHED:
        return []
    usual = median(rates)
    late = {
        place: task.seconds / max(usual * task.size, 1e-9)
        for place, task in enumerate(running)
        if task.copies == 1 and task.seconds >= _LEAST_SECONDS
    }
    slow = [place for place, times in late.items() if times >= _TIMES_USUAL]
    return sorted(slow, key=lambda place: -late[place])[: max(idle, 0)]


def overdue(waits: Sequence[float], idle: int) -> list[int]:
    """Which tasks that nobody has begun to give to other workers.

    A worker may be held up by a task that is done elsewhere and was cancelled, which ends no
    thread: the scheduler takes it for free, and what it is given next waits behind that. A
    task waits for a minute although there are workers without one.

    Parameters
    ----------
    waits : sequence of float
        Seconds since each of these tasks was given out.
    idle : int
        Workers that are at no task.

    Returns
    -------
    list of int
        Places in `waits`, the longest wait first; at most `idle` of them.

    Examples
    --------
    >>> overdue([59.0, 61.0, 90.0], 1)
    [2]
    """
    late = [place for place, seconds in enumerate(waits) if seconds >= _LONGEST_WAIT]
    return sorted(late, key=lambda place: -waits[place])[: max(idle, 0)]


def is_suspect(starts: int, losses: int) -> bool:
    """Whether a task that was lost with its workers may be what kills them.

    Parameters
    ----------
    starts : int
        How often it had begun. Dask counts every task that a dead worker had been given,
        but only one that had begun twice, at least, can have killed two.
    losses : int
        How often it was lost. News of a start can be lost with the worker; what is
        lost for the third time is looked at in any case.
    """
    return starts >= 2 or losses >= 3
