from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.engine.policy import Given, held_up, is_suspect, order, repeats, window

many = st.lists(
    st.builds(
        Given,
        place=st.integers(0, 30),
        size=st.integers(1, 1000),
        seconds=st.floats(0, 1e5),
        worker=st.sampled_from(["a", "b", "c", None]),
        has_begun=st.booleans(),
    ),
    max_size=20,
)


@given(many, st.lists(st.floats(0.001, 10), max_size=9), st.integers(0, 30))
def test_only_late_tasks_without_a_copy_are_repeated_on_idle_workers(tasks, rates, workers):
    chosen = repeats(tasks, rates, workers)
    places = [task.place for task in tasks]
    begun = sum(task.has_begun for task in tasks)
    assert len({repeat.place for repeat in chosen}) == len(chosen) <= max(workers - begun, 0)
    for repeat in chosen:
        assert places.count(repeat.place) == 1
        task = tasks[places.index(repeat.place)]
        assert repeat.avoid == task.worker
        assert repeat.avoid in repeat.reason
        if task.has_begun:
            assert len(rates) >= 3
            assert task.seconds >= max(10, 2.99 * median(rates) * task.size)
        else:
            assert task.seconds >= 60


@given(st.lists(st.floats(0, 1e5), max_size=20), st.integers(0, 9))
def test_the_slowest_tasks_are_repeated_first(seconds, idle):
    slow = [Given(i, 100, s, "a") for i, s in enumerate(seconds)]
    waiting = [Given(i, 100, s, "a", has_begun=False) for i, s in enumerate(seconds)]
    for tasks, least, busy in ((slow, 30, len(slow)), (waiting, 60, 0)):
        found = [seconds[r.place] for r in repeats(tasks, [0.1] * 3, busy + idle)]
        late = sorted((s for s in seconds if s >= least), reverse=True)
        assert found == late[:idle]


def test_usual_tasks_are_not_repeated():
    assert repeats([Given(0, 100, 25.0, "a")], [0.1] * 3, 4) == []
    assert [r.place for r in repeats([Given(0, 100, 30.0, "a")], [0.1] * 3, 4)] == [0]
    assert repeats([Given(0, 1, 9.0, "a")], [0.1] * 3, 4) == []
    assert repeats([Given(0, 100, 30.0, "a")], [0.1] * 2, 4) == []
    assert repeats([Given(0, 1, 59.0, "a", has_begun=False)], [], 4) == []
    assert repeats([Given(0, 1, 99.0, None, has_begun=False)], [], 4) == []


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 100)))
def test_only_workers_that_stay_held_up_are_restarted(stays):
    assert set(held_up(stays)) == {worker for worker, seconds in stays.items() if seconds >= 10}


@pytest.mark.parametrize(
    ("starts", "losses", "suspect"), [(0, 1, False), (1, 2, False), (2, 1, True), (0, 3, True)]
)
def test_only_tasks_that_began_twice_or_were_lost_thrice_are_suspected(starts, losses, suspect):
    assert is_suspect(starts, losses) is suspect


def test_the_window_is_never_empty():
    assert window(0) == 3
    assert window(4) == 12
    assert window(1, most=8) == 24


@given(st.lists(st.integers(1, 5)), st.integers(0, 4))
def test_the_smallest_jobs_come_last(sizes, workers):
    found = order(sizes, workers)
    assert sorted(found) == [*range(len(sizes))]
    count = max(len(sizes) - 2 * workers, 0)
    first, last = found[:count], [sizes[job] for job in found[count:]]
    assert first == sorted(first)
    assert last == sorted(last, reverse=True)
    assert min((sizes[job] for job in first), default=9) >= max(last, default=0)
    if len({*sizes}) == 1:
        assert found == [*range(len(sizes))]
