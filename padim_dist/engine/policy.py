"""When tasks are given out, repeated or examined, and workers restarted: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

_TASKS_A_WORKER = 3
_LAST_A_WORKER = 2
_LEAST_FINISHED = 3
_TIMES_USUAL = 3.0
_LEAST_SECONDS = 10.0
_LONGEST_WAIT = 60.0
_LONGEST_STAY = 10.0


@dataclass(frozen=True)
class Given:
    """A task that is with the scheduler.

    Attributes
    ----------
    place, size : int
        Number of its job, the same for its copies; images (or bands) in it.
    seconds : float
        Seconds since it began; if it has not begun, since it was submitted.
    worker, has_begun : str or None, bool
        The worker that has it, None if not known; whether that has begun.
    """

    place: int
    size: int
    seconds: float
    worker: str | None
    has_begun: bool = True


@dataclass(frozen=True)
class Repeat:
    """A task to give out once more: the number of its job, a worker to avoid, and the reason."""

    place: int
    avoid: str
    reason: str


def window(workers: int, most: int | None = None) -> int:
    """Return the number of tasks that are with the scheduler at a time.

    A few for each worker keep it busy. More would let driver and scheduler grow with the archive.
    If the cluster scales itself with the tasks that wait, the window is that of its largest size
    (`most`).

    Examples
    --------
    >>> window(0), window(2), window(2, most=10)
    (3, 6, 30)
    """
    return _TASKS_A_WORKER * max(workers, most or 1)


def order(sizes: Sequence[int], workers: int) -> list[int]:
    """Return the numbers of jobs in the order in which they are given out.

    A few of the smallest come last, the larger ones of these first, so that workers end at about
    the same time. All others keep their order: jobs of one group follow each other, and a worker
    holds the model of one group.

    Examples
    --------
    >>> order([64, 32, 19, 64, 64, 64, 49, 64], workers=2)
    [0, 3, 4, 5, 7, 6, 1, 2]
    """
    smallest = sorted(range(len(sizes)), key=lambda job: (sizes[job], -job))
    last = sorted(smallest[: _LAST_A_WORKER * workers], key=lambda job: (-sizes[job], job))
    return [*sorted({*range(len(sizes))} - {*last}), *last]


def repeats(given: Sequence[Given], rates: Sequence[float], workers: int) -> list[Repeat]:
    """Return the tasks to give out a second time, to workers that have nothing else to do.

    A *straggler* has run for at least ten seconds and three times as long as a task of its size
    usually takes, which is known after three finished tasks. A task *is not begun* if it waits
    for a minute although there are workers without a task: something blocks its worker, such as a
    cancelled task, whose thread goes on.

    Parameters
    ----------
    given : sequence of Given
        All tasks that are with the scheduler.
    rates : sequence of float
        Seconds per image of finished tasks.
    workers : int
        Workers of the cluster.

    Returns
    -------
    list of Repeat
        At most one for each worker without a task, the latest tasks first.

    Examples
    --------
    >>> slow, waiting = Given(0, 100, 31, "a"), Given(1, 100, 61, "b", has_begun=False)
    >>> [repeat.place for repeat in repeats([slow, waiting], [0.1] * 3, 4)]
    [0, 1]
    """
    copies = [task.place for task in given]
    single = [task for task in given if copies.count(task.place) == 1 and task.worker]
    usual = median(rates) if len(rates) >= _LEAST_FINISHED else float("inf")

    def lateness(task: Given) -> float:
        return task.seconds / max(usual * task.size, 1e-9)

    slow = [
        task
        for task in single
        if task.has_begun and task.seconds >= _LEAST_SECONDS and lateness(task) >= _TIMES_USUAL
    ]
    waiting = [t for t in single if not t.has_begun and t.seconds >= _LONGEST_WAIT]
    slow = sorted(slow, key=lateness, reverse=True)[: max(workers - len(given), 0)]
    idle = max(workers - sum(task.has_begun for task in given) - len(slow), 0)
    waiting = sorted(waiting, key=lambda t: -t.seconds)[:idle]
    reasons = (
        (slow, "straggles on {}: done a second time elsewhere"),
        (waiting, "is not begun by {}, which is held up: given to another worker"),
    )
    return [
        Repeat(task.place, str(task.worker), reason.format(task.worker))
        for tasks, reason in reasons
        for task in tasks
    ]


def held_up(abandoned: Mapping[str, float]) -> list[str]:
    """Return the workers to restart.

    `abandoned` has, by worker, the seconds since its task was cancelled or done elsewhere.

    Examples
    --------
    >>> held_up({"a": 2.0, "b": 11.0})
    ['b']
    """
    return [worker for worker, seconds in abandoned.items() if seconds >= _LONGEST_STAY]


def is_suspect(starts: int, losses: int) -> bool:
    """Return whether a task that was lost with its workers may be what kills them.

    Dask counts every task that a dead worker had been given, but only a task that had begun at
    least twice can have killed two. The report of a start can be lost with the worker; a task that
    is lost for the third time is examined in any case.
    """
    return starts >= 2 or losses >= 3
