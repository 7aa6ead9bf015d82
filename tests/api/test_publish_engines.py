"""The Iceberg tables, read by iceberg-rust: it shares no code with PyIceberg."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import padim_dist as padim
from tests.api.published import (
    REGION,
    SCORED,
    WHICH,
    add_night,
    add_run,
    catalog,
    publishing,
    rows_of,
    wanted,
)

pytestmark = pytest.mark.skipif(
    not (find_spec("pyiceberg_core") and find_spec("datafusion")),
    reason="SKIPPED PART: datafusion and pyiceberg-core are not installed",
)
A, B, C = (letter * 16 for letter in "abc")


def test_datafusion_reads_the_same_rows(tmp_path):
    from datafusion import SessionContext
    from pyiceberg.catalog import load_catalog

    config = publishing(tmp_path, "iceberg")
    add_night(config, 1, [A])
    padim.publish(config)
    add_run(config, A, seed=9, finished_at="2026-01-02T00:00:00+00:00")
    add_night(config, 2, [A, B])
    add_night(config, 3, [C])
    padim.publish(config)
    padim.judge(config, run=C, review=7)
    padim.publish(config)

    names = load_catalog("default", **catalog(tmp_path))
    context = SessionContext()
    for table, view, own in (("images", "scores", SCORED), ("regions", "regions", REGION)):
        context.register_table(table, names.load_table(f"audits.{table}"))
        found = context.sql(f"SELECT * FROM {table}").to_arrow_table()
        columns = (*WHICH, "day", *own)
        assert rows_of(found, columns) == rows_of(wanted(config, view), columns)
    by_day = "SELECT day, count(*) AS n FROM images WHERE day = DATE '2026-11-26' GROUP BY day"
    assert context.sql(by_day).to_arrow_table()["n"].to_pylist() == [80]
