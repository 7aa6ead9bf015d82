"""Publishing keeps all rows, once, when runs, tables or nights change or fail meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.api.publish import rows
from padim_dist.api.publish.hive import HivePlace
from padim_dist.api.publish.publish import publish_new
from padim_dist.errors import RunError
from padim_dist.storage import Folder
from tests.api.published import (
    MOSTLY_HIVE,
    add_night,
    catalog,
    check,
    needs_iceberg,
    publishing,
    read,
    rows_of,
)

A, B, C, D = (letter * 16 for letter in "abcd")


def test_a_night_that_is_there_hides_no_earlier_one_that_is_not(tmp_path, monkeypatch):
    config = publishing(tmp_path, "hive")
    for number, run in enumerate((A, B, C), start=1):
        add_night(config, number, [run])
    assert padim.publish(config, night=3).nights == [3]
    assert publish_new(config).nights == [1, 2]
    check(config, "hive")

    # A night fails, and a later one is published alone.
    add_night(config, 4, [D])
    with monkeypatch.context() as failing:
        failing.setattr(HivePlace, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish_new(config)
    add_night(config, 5, ["e" * 16])
    padim.publish(config, night=5)
    assert publish_new(config).nights == [4]
    check(config, "hive")
    assert publish_new(config).unchanged == 0  # it does not look at them again


@pytest.mark.parametrize("lost", ["run.json", "scores/shard-0000000.parquet"])
@pytest.mark.parametrize("place", MOSTLY_HIVE)
def test_a_run_that_is_removed_while_it_is_read_stays_published(tmp_path, monkeypatch, place, lost):
    config = publishing(tmp_path, place)
    add_night(config, 1, [A])
    padim.publish(config)
    before = rows_of(read(config, place), ["night", "run_id", "image_id"])
    true = rows.RowReader.read

    def removed_meanwhile(self, table, piece, head):
        if table is rows.IMAGES_TABLE:
            Folder(config.workspace).remove(f"runs/{A}/{lost}")
        return true(self, table, piece, head)

    add_night(config, 2, [A])  # its rows would move
    with monkeypatch.context() as changed:
        changed.setattr(rows.RowReader, "read", removed_meanwhile)
        with pytest.raises(RunError, match=f"run {A} is not published: it"):
            padim.publish(config)
    assert rows_of(read(config, place), ["night", "run_id", "image_id"]) == before


@pytest.mark.parametrize("place", MOSTLY_HIVE)
def test_errors_of_reading_a_run_are_not_told_of_the_tables(tmp_path, place):
    config = publishing(tmp_path, place)
    add_night(config, 1, [A])
    file = Path(config.workspace, f"runs/{A}/scores/shard-0000000.parquet")
    data = bytearray(file.read_bytes())
    data[4:400] = bytes(396)  # the end, which is read first, is whole
    file.write_bytes(data)
    with pytest.raises(RunError, match=f"^run {A} cannot be read to be published") as raised:
        padim.publish(config)
    assert "cannot be written" not in str(raised.value)


@pytest.mark.parametrize("changed", ["identity", "key"])
def test_a_run_that_moves_once_another_table_was_made_again_is_there_once(
    tmp_path, monkeypatch, changed
):
    """Of two tables one may be made again, or have another name: the other one has its rows."""
    config = publishing(tmp_path, "hive")
    add_night(config, 1, [A])
    padim.publish(config)
    new = {"identity": lambda _: "another", "key": property(lambda _: "another", lambda *_: None)}
    monkeypatch.setattr(HivePlace, changed, new[changed], raising=False)
    add_night(config, 2, [A])
    padim.publish(config)
    check(config, "hive")


@needs_iceberg
@pytest.mark.slow
def test_a_run_that_moves_once_the_regions_were_made_again_is_there_once(tmp_path):
    from pyiceberg.catalog import load_catalog

    config = publishing(tmp_path, "iceberg")
    add_night(config, 1, [A])
    padim.publish(config)
    load_catalog("default", **catalog(tmp_path)).drop_table("audits.regions")
    add_night(config, 2, [A])
    publish_new(config)
    check(config, "iceberg")
