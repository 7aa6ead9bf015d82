"""What goes by the policy; tombstones; figures by week that are put together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import padim_dist as padim
from padim_dist.api.retention.policy import NAMES, Item, decide, summarise
from padim_dist.api.retention.prune import prune_after_night
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.sql.weeks import merged_weeks
from padim_dist.errors import ConfigError, RequestError
from padim_dist.store.objects import StoredObject, list_objects, remove_objects
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tombstones import Tombstone, WeekFigures, put_tombstone, read_tombstones
from tests.api.workspace import made_config, put_run, score_rows

NOW = datetime(2026, 11, 27, tzinfo=UTC)
KINDS = [kind for kind in NAMES if kind != "heatmaps"]


@st.composite
def workspaces(draw):
    """Return items that need one another at random, and terms of their kinds."""
    keys = [
        (draw(st.sampled_from(KINDS)), str(number)) for number in range(draw(st.integers(1, 12)))
    ]
    items = [
        Item(
            key,
            [StoredObject(key[1], draw(st.integers(0, 9)), NOW)],
            NOW - timedelta(days=draw(st.integers(-2, 20))),
            needs=frozenset(draw(st.sets(st.sampled_from([*keys, ("model", "gone")]), max_size=3))),
            root=draw(st.sampled_from([None, None, None, "promoted"])),
        )
        for key in keys
    ]
    terms = {kind: draw(st.sampled_from([None, *map(timedelta, range(1, 19))])) for kind in KINDS}
    runs = [item for item in items if item.key[0] == "run"]
    items += [
        Item(("heatmaps", run.key[1]), [], NOW - timedelta(days=draw(st.integers(0, 20))),
             part_of=run.key)
        for run in runs
    ]  # fmt: skip
    return items, {**terms, "heatmaps": draw(st.sampled_from([None, timedelta(5)]))}


def kept_by_search(items, terms, now):
    """Return what stays, by asking of each item whether something that holds it reaches it."""
    by_key = {item.key: item for item in items}

    def holds(item):
        term = terms[item.kind]
        return item.root is not None or term is None or now - item.modified < term

    def is_reached(target, seen):
        if holds(by_key[target]):
            return True
        users = [item.key for item in items if target in item.needs and item.key not in seen]
        return any(is_reached(user, {*seen, user}) for user in users)

    kept = {key for key in by_key if is_reached(key, {key})}
    return {key for key in kept if by_key[key].part_of is None or by_key[key].part_of in kept}


@given(workspaces(), st.sampled_from([NOW, NOW + timedelta(days=40_000), NOW - timedelta(4_000)]))
def test_what_is_needed_young_or_a_root_stays_and_all_else_goes(workspace, now):
    items, terms = workspace
    found = decide(items, terms, now)
    assert {one.item.key for one in found if not one.goes} == kept_by_search(items, terms, now)
    assert all(one.why for one in found)
    # Whatever the clock says, roots stay, with all that they need.
    left = [item for item in items if item.root]
    for root in left:
        left += [i for i in items if i.key in root.needs and i not in left]
    assert not {item.key for item in left} & {one.item.key for one in found if one.goes}
    lines = summarise(found)
    assert sum(line.items for line in lines) == len(items)
    assert sum(line.bytes for line in lines) == sum(item.bytes for item in items)
    assert [line.goes for line in lines] == sorted((line.goes for line in lines), reverse=True)


def test_without_the_section_nothing_is_removed(tmp_path):
    with pytest.raises(ConfigError, match="has no section 'retention', so nothing is removed"):
        padim.prune(made_config(str(tmp_path)))


def test_a_night_says_whether_it_could_prune(tmp_path, caplog):
    def fail() -> None:
        raise OSError("no space left")

    config = made_config(str(tmp_path), retention={"heatmaps": "30d"})
    assert prune_after_night(config, lambda: padim.prune(config))
    assert not prune_after_night(config, fail)
    assert "the workspace was not pruned: no space left" in caplog.text
    assert prune_after_night(made_config(str(tmp_path)), fail), "nothing is asked for"


@pytest.mark.parametrize("term", ["1 hour", "12:00:00", "soon", "-3d", "0d"])
def test_a_term_is_a_day_or_more(tmp_path, term):
    with pytest.raises(ConfigError, match=r"retention\.runs"):
        made_config(str(tmp_path), retention={"runs": term})


def test_a_tombstone_of_a_run_is_found_by_its_id(tmp_path):
    config = made_config(str(tmp_path))
    put_run(config, "aa" * 8, score_rows("aa" * 8, 20), drift={"a": {
        "images": 9, "drift": 2.0, "expected": 1.0, "noise": 0.5, "z": 2.0}})  # fmt: skip
    put_run(config, "bb" * 8, score_rows("bb" * 8, 20, seed=1))
    workspace = workspace_of(config)
    for name in ("aa" * 8, "bb" * 8):
        run = Run(workspace, name)
        put_tombstone(workspace, Tombstone.of(run.head(), 3, [], "2026-11-27T00:00:00+00:00"))
        put_tombstone(workspace, Tombstone.of(run.head(), 3, [], "2026-11-28T00:00:00+00:00"))
    stone, other = read_tombstones(workspace)
    assert {stone.run_id, other.run_id} == {"aa" * 8, "bb" * 8}
    assert (stone.night, stone.statuses) == (3, {"scored": 19, "unreadable": 1})
    assert stone.drift == Run(workspace, "aa" * 8).head().drift
    remove_objects(
        workspace.folder, [o.path for o in list_objects(workspace.folder, f"runs/{'aa' * 8}")]
    )
    # The other run was made again: it is not listed twice.
    rows = padim.connect(config).sql(
        "SELECT run_id, pruned_at IS NULL, scored FROM runs ORDER BY 1"
    )
    assert rows.fetchall() == [("aa" * 8, False, 19), ("bb" * 8, True, 19)]
    with pytest.raises(RequestError, match=r"run a+ was pruned on 2026-11-28 \(retention.runs\)"):
        padim.top(config, run="aa")


def test_weeks_of_several_runs_are_added():
    def week(images, middle, group="a"):
        return WeekFigures("2026-W48", group, images, images - 1, 2, middle, 0.5)

    later = WeekFigures("2026-W49", None, 4, 0, 0, None, None)
    found = merged_weeks([later, week(10, 1.0), week(5, 9.0), week(30, 2.0), week(7, None, None)])
    assert [(one.week, one.group) for one in found] == [
        ("2026-W48", None), ("2026-W48", "a"), ("2026-W49", None)
    ]  # fmt: skip
    assert found[1] == WeekFigures("2026-W48", "a", 45, 42, 6, 2.0, 0.5)
    assert found[2] == later


def test_objects_are_listed_with_bytes_and_removed(tmp_path):
    folder = workspace_of(made_config(str(tmp_path))).folder
    for name in ("runs/a/one", "runs/a/b/two", "runs/other"):
        folder.put(name, name.encode())
    found = list_objects(folder, "runs")
    assert [(one.path, one.size) for one in found] == [
        ("runs/a/b/two", 12), ("runs/a/one", 10), ("runs/other", 10)
    ]  # fmt: skip
    assert list_objects(folder, "models") == []
    remove_objects(folder, ["runs/a/one", "runs/a/gone", "runs/other"])
    assert [one.path for one in list_objects(folder, "runs")] == ["runs/a/b/two"]
