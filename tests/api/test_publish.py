"""Published tables have each row of the workspace's nights once, whatever is repeated."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.api.publish import columns, rows
from padim_dist.api.publish.publish import publish_new
from padim_dist.cli.app import app
from padim_dist.config import make_config
from padim_dist.errors import ConfigError, HeldError, RequestError, RunError
from padim_dist.storage import Folder
from padim_dist.store.lease import hold
from padim_dist.store.workspace import Workspace
from tests.api.killed_publish import publish_and_kill
from tests.api.published import (
    MOSTLY_HIVE,
    PLACES,
    add_night,
    add_run,
    catalog,
    check,
    needs_iceberg,
    publishing,
    read,
    rows_of,
    wanted,
)
from tests.api.workspace import config_file

A, B, C, D = (letter * 16 for letter in "abcd")


@pytest.mark.parametrize("place", PLACES)
def test_nights_are_there_once_with_all_that_the_views_say(tmp_path, place):
    config = publishing(tmp_path, place)
    add_night(config, 1, [A])
    add_night(config, 2)  # no image came
    add_night(config, 3, [B, C])
    first = padim.publish(config)
    assert (first.nights, first.runs, first.images) == ([1, 3], 3, 120)
    assert first.regions == wanted(config, "regions").num_rows > 0
    check(config, place)

    table = read(config, place)
    assert {str(day) for day in table["day"].to_pylist()} == {"2026-11-25", "2026-11-27"}
    assert set(table["archive"].to_pylist()) == {config.archive.url}
    # These images are not below the archive's address.
    assert table["path"].to_pylist() == table["uri"].to_pylist()

    again = padim.publish(config)
    assert (again.nights, again.runs, again.unchanged) == ([], 0, 3)
    for repeated in (padim.publish(config, night=3), padim.publish(config, all_of_them=True)):
        assert repeated.runs in (2, 3)
        check(config, place)


@pytest.mark.parametrize("place", PLACES)
def test_a_run_that_a_later_night_goes_on_with_moves_to_that_night(tmp_path, place):
    config = publishing(tmp_path, place)
    add_night(config, 1, [A, B])
    padim.publish(config)
    add_run(config, B, seed=7, finished_at="2026-01-02T00:00:00+00:00")  # scored again
    add_night(config, 2, [B, C])
    assert publish_new(config).nights == [2]
    check(config, place)
    days = Counter(rows_of(read(config, place), ["night", "run_id"]))
    assert days == {(1, A): 40, (2, B): 40, (2, C): 40}


@pytest.mark.parametrize("place", MOSTLY_HIVE)
def test_another_rule_and_reviews_are_changes(tmp_path, place):
    config = publishing(tmp_path, place)
    for number, run in enumerate((A, B), start=1):
        add_night(config, number, [run])
    padim.publish(config)
    padim.judge(config, run=A, review=11)
    assert padim.publish(config).nights == [1]
    assert sum(map(bool, read(config, place)["flagged"].to_pylist())) == 11 + 4
    check(config, place)

    image = read(config, place)["image_id"].to_pylist()[0]
    padim.label(config, images=[image], verdict="defect", kind="scratch", run=B)
    assert padim.publish(config).nights == [1, 2]  # both have it, with the same etag
    kinds = Counter(rows_of(read(config, place), ["image_id", "kind"]))
    assert kinds[image, "scratch"] == 2
    assert padim.publish(config).runs == 0


@pytest.mark.parametrize("place", MOSTLY_HIVE)
def test_runs_of_no_night_are_published_if_asked_for(tmp_path, place):
    config = publishing(tmp_path, place)
    add_night(config, 1, [A])
    add_run(config, D, seed=4)
    assert padim.publish(config).runs == 1
    assert padim.publish(config, run="d").images == 40
    check(config, place, "true")
    days = {str(day) for run, day in rows_of(read(config, place), ["run_id", "day"]) if run == D}
    assert days == {"2026-01-01"}  # when it was started
    # A night takes it over.
    add_night(config, 2, [D])
    padim.publish(config)
    check(config, place, "true")
    assert padim.publish(config, all_of_them=True).runs == 2
    check(config, place, "true")


@pytest.mark.parametrize("place", MOSTLY_HIVE)
def test_a_run_whose_tables_are_gone_stays_published(tmp_path, place):
    config = publishing(tmp_path, place)
    add_night(config, 1, [A])
    add_night(config, 2, [B])
    padim.publish(config)
    before = rows_of(read(config, place), ["run_id", "image_id"])
    Folder(config.workspace).remove_tree(f"runs/{A}/scores")
    found = padim.publish(config, all_of_them=True)
    assert found.notes == [f"run {A} is not published: its tables are gone"]
    assert rows_of(read(config, place), ["run_id", "image_id"]) == before


@pytest.mark.parametrize("place", MOSTLY_HIVE)
def test_compaction_changes_nothing(tmp_path, place):
    config = publishing(tmp_path, place)
    add_night(config, 1, [A])
    padim.publish(config)
    before = rows_of(read(config, place), ["run_id", "image_id", "score"])
    assert padim.compact(config).files_removed > 0
    assert rows_of(read(config, place), ["run_id", "image_id", "score"]) == before
    padim.publish(config, all_of_them=True)
    check(config, place)


def test_what_a_night_costs_does_not_depend_on_earlier_nights(tmp_path, monkeypatch):
    config = publishing(tmp_path, "hive")
    counts = []
    seen: Counter[str] = Counter()
    for name in ("read", "list", "exists", "put", "put_file", "create", "remove"):
        true = getattr(Folder, name)

        def counted(self, *args, true=true, name=name):
            seen[name] += 1
            return true(self, *args)

        monkeypatch.setattr(Folder, name, counted)
    for number in range(1, 13):
        add_night(config, number, [f"{number:016x}"], images=12)
        seen.clear()
        publish_new(config)
        counts.append(seen.total())
    assert counts[-1] == counts[4]


def test_paths_are_those_in_the_archive(tmp_path):
    config = publishing(tmp_path, "hive")
    config = make_config({**config.model_dump(), "archive": {"url": "/archive"}})
    add_night(config, 1, [A])
    padim.publish(config)
    for path, uri in rows_of(read(config, "hive"), ["path", "uri"]):
        assert f"/archive/{path}" == uri


def test_requests_that_make_no_sense_are_refused(tmp_path):
    config = publishing(tmp_path, "hive")
    with pytest.raises(ConfigError, match="section publish is empty"):
        padim.publish(publishing(tmp_path))
    with pytest.raises(RequestError, match="night 7 has no rows"):
        padim.publish(config, night=7)
    with pytest.raises(RequestError, match="exclude each other"):
        padim.publish(config, night=7, all_of_them=True)
    add_run(config, A, finished=False)
    with pytest.raises(RequestError, match="is half done"):
        padim.publish(config, run=A)
    with pytest.raises(ConfigError, match=r"publish\.iceberg\.table"):
        make_config({**config.model_dump(), "publish": {"iceberg": {"table": "images"}}})


def test_one_process_at_a_time_publishes_to_a_place(tmp_path):
    config = publishing(tmp_path, "hive")
    add_night(config, 1, [A])
    padim.publish(config)
    workspace = Workspace(Folder(config.workspace))
    (place,) = workspace.folder.list("published")
    with hold(workspace, f"published/{place}"), pytest.raises(HeldError):
        padim.publish(config)


def test_the_command_writes_and_says_what(tmp_path):
    config = publishing(tmp_path, "hive")
    add_night(config, 1, [A])
    file = config_file(config, tmp_path / "audit.yaml")
    done = CliRunner().invoke(app, ["publish", "-c", str(file)])
    assert done.exit_code == 0, done.output
    assert "40" in done.output
    assert str(tmp_path / "tables") in done.output
    check(config, "hive")


def test_a_store_that_fails_is_an_error_in_words(tmp_path):
    config = publishing(tmp_path, "hive")
    add_night(config, 1, [A])
    (tmp_path / "tables").write_text("a file, not a folder")
    with pytest.raises(RunError, match="'padim-dist publish' tries again"):
        padim.publish(config)
    (tmp_path / "tables").unlink()
    padim.publish(config)
    check(config, "hive")


@needs_iceberg
def test_tables_of_earlier_versions_get_the_columns_of_later_ones(tmp_path, monkeypatch):
    config = publishing(tmp_path, "iceberg")
    add_night(config, 1, [A])
    former = tuple(c for c in columns.IMAGES if c.name not in ("kind", "score_fine", "left_out"))
    with monkeypatch.context() as older:
        table = rows.IMAGES_TABLE
        older.setitem(vars(table), "columns", former)
        padim.publish(config)
        assert "kind" not in read(config, "iceberg").column_names
    add_night(config, 2, [B])
    padim.publish(config)
    found = read(config, "iceberg")
    assert set(found.column_names) == {column.name for column in columns.IMAGES}
    check(config, "iceberg")


@needs_iceberg
@pytest.mark.slow
def test_a_column_that_others_added_stays_and_may_be_null(tmp_path):
    from pyiceberg.catalog import load_catalog
    from pyiceberg.types import StringType

    config = publishing(tmp_path, "iceberg")
    add_night(config, 1, [A])
    padim.publish(config)
    table = load_catalog("default", **catalog(tmp_path)).load_table("audits.images")
    with table.update_schema() as update:
        update.add_column("plant", StringType())
    add_night(config, 2, [B])
    padim.publish(config)
    check(config, "iceberg")
    assert set(read(config, "iceberg")["plant"].to_pylist()) == {None}


@needs_iceberg
@pytest.mark.slow
def test_a_table_that_was_removed_is_made_again_with_all_nights(tmp_path):
    from pyiceberg.catalog import load_catalog

    config = publishing(tmp_path, "iceberg")
    for number, run in enumerate((A, B), start=1):
        add_night(config, number, [run])
    padim.publish(config)
    load_catalog("default", **catalog(tmp_path)).drop_table("audits.images")
    assert publish_new(config).nights == [1, 2]
    check(config, "iceberg")


@needs_iceberg
def test_a_table_of_something_else_is_refused(tmp_path):
    import pyarrow as pa
    from pyiceberg.catalog import load_catalog

    config = publishing(tmp_path, "iceberg")
    add_night(config, 1, [A])
    others = load_catalog("default", **catalog(tmp_path))
    others.create_namespace("audits")
    others.create_table("audits.images", pa.schema([("x", pa.int64())]))
    with pytest.raises(ConfigError, match=r"audits\.images exists, and was not made for"):
        padim.publish(config)
    assert others.load_table("audits.images").schema().column_names == ["x"]


@needs_iceberg
@pytest.mark.parametrize("same", [True, False])
def test_two_writers_at_once_add_each_row_once(tmp_path, same):
    """The second one commits while the first one reads its rows."""
    from padim_dist.api.publish.iceberg import IcebergPlace
    from padim_dist.api.publish.rows import IMAGES_TABLE, Piece, RowReader
    from padim_dist.store.runs.run import Run

    config = publishing(tmp_path, "iceberg")
    for number, run in enumerate((A, B), start=1):
        add_night(config, number, [run])
    day = datetime.date(2026, 11, 25)
    workspace = Workspace(Folder(config.workspace))
    reader = RowReader(config)
    other = A if same else B
    attempts = []

    def write(run, before=lambda: None):
        place = IcebergPlace(config, config.publish.iceberg)

        def parts(run_id):
            attempts.append(run_id)
            if len(attempts) == 1:
                before()
            head = Run(workspace, run_id).head()
            return reader.read(IMAGES_TABLE, Piece(1, day, [head]), head)

        place.replace(IMAGES_TABLE, [run], [day], parts)

    write(A, before=lambda: write(other))
    assert attempts == ([A, A, A] if same else [A, B])
    counts = Counter(read(config, "iceberg")["run_id"].to_pylist())
    assert counts == {A: 40} | {other: 40}


@needs_iceberg
def test_a_failed_catalog_shows_no_secret(tmp_path):
    secret = "hunter2hunter2"
    tree = publishing(tmp_path, "hive").model_dump()
    named = {"uri": f"postgresql://me:{secret}@127.0.0.1:1/x", "token": secret, "s3.region": "x"}
    config = make_config({**tree, "publish": {"iceberg": {"catalog": named}}})
    add_night(config, 1, [A])
    assert secret not in repr(config)
    with pytest.raises((ConfigError, RunError)) as raised:
        padim.publish(config)
    assert secret not in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        make_config({**tree, "publish": {"iceberg": {"catalog": {"token": [secret]}}}})
    assert secret not in str(raised.value)


def test_without_pyiceberg_it_says_what_to_install(tmp_path, monkeypatch):
    config = publishing(tmp_path, "iceberg")
    add_night(config, 1, [A])
    monkeypatch.setattr("padim_dist.api.publish.iceberg.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'padim-dist\[lakehouse\]'"):
        padim.publish(config)


def test_files_have_no_leftovers(tmp_path):
    config = publishing(tmp_path, "hive")
    add_night(config, 1, [A])
    padim.publish(config)
    found = [path for path in Path(str(config.publish.hive)).rglob("*") if path.is_file()]
    assert {path.name for path in found} == {f"{A}.parquet"}


@pytest.mark.slow
def test_kills_leave_no_row_twice(tmp_path):
    twice, hit = publish_and_kill(tmp_path, kills=3, seed=1, images=1000)
    assert twice == 0
    assert hit == 3
