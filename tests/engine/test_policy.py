from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.engine.policy import Running, is_suspect, overdue, stragglers, window

running = st.builds(Running, st.integers(1, 1000), st.floats(0, 1e5), copies=st.integers(1, 2))


@given(st.lists(running, max_size=20), st.lists(st.floats(0, 10), max_size=9), st.integers(-3, 9))
def test_only_slow_single_tasks_are_doubled_and_only_on_idle_workers(tasks, rates, idle):
    chosen = stragglers(tasks, rates, idle)
    assert len(chosen) == len(set(chosen)) <= max(idle, 0)
    assert not chosen or len(rates) >= 3
    for place in chosen:
        assert tasks[place].copies == 1
        assert tasks[place].seconds >= 10
        assert (
            tasks[place].seconds >= 2.99 * sorted(rates)[(len(rates) - 1) // 2] * tasks[place].size
        )


@given(st.lists(running, min_size=1, max_size=20), st.integers(1, 20))
def test_the_slowest_come_first(tasks, idle):
    all_of_them = stragglers(tasks, [0.01] * 3, len(tasks))
    assert stragglers(tasks, [0.01] * 3, idle) == all_of_them[:idle]
    late = [tasks[place].seconds / tasks[place].size for place in all_of_them]
    assert late == sorted(late, reverse=True)


def test_usual_tasks_are_left_alone():
    assert stragglers([Running(100, 25.0)], [0.1, 0.1, 0.1], 4) == []
    assert stragglers([Running(100, 30.0)], [0.1, 0.1, 0.1], 4) == [0]
    assert stragglers([Running(1, 9.0)], [0.1, 0.1, 0.1], 4) == []


@given(st.lists(st.floats(0, 1e5), max_size=20), st.integers(-3, 9))
def test_only_what_waits_for_long_goes_to_idle_workers(waits, idle):
    chosen = overdue(waits, idle)
    assert len(chosen) == min(max(idle, 0), sum(wait >= 60 for wait in waits))
    assert all(waits[place] >= 60 for place in chosen)
    assert [waits[place] for place in chosen] == sorted(waits, reverse=True)[: len(chosen)]


@pytest.mark.parametrize(
    ("starts", "losses", "suspect"), [(0, 1, False), (1, 2, False), (2, 1, True), (0, 3, True)]
)
def test_bystanders_are_not_suspected(starts, losses, suspect):
    assert is_suspect(starts, losses) is suspect


def test_the_window_is_never_empty():
    assert window(0) == 3
    assert window(4) == 12
    assert window(1, most=8) == 24
