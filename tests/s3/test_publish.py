"""Workspace and published tables in a bucket: `storage_options` give access to both."""

from __future__ import annotations

import duckdb
import fsspec
import pytest

import padim_dist as padim
from tests.api.published import SCORED, WHICH, add_night, needs_iceberg, read, rows_of, wanted
from tests.api.workspace import made_config

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
A, B = "a" * 16, "b" * 16


@needs_iceberg
def test_tables_in_a_bucket(tmp_path, server):
    endpoint = f"http://{server[0]}:{server[1]}"
    options = {"s3": {"endpoint_url": endpoint}}
    fs = fsspec.filesystem("s3", **options["s3"])
    if fs.exists("publish"):
        fs.rm("publish", recursive=True)
    fs.mkdir("publish")
    catalog = {"uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": "s3://publish/warehouse"}
    config = made_config(
        "s3://publish/audit",
        storage_options=options,
        publish={"iceberg": {"catalog": catalog}, "hive": "s3://publish/tables"},
    )
    add_night(config, 1, [A])
    add_night(config, 2, [A, B])
    assert padim.publish(config).runs == 2
    assert padim.publish(config, all_of_them=True).runs == 2
    names = (*WHICH, *SCORED)
    expected = rows_of(wanted(config), names)

    # Their own properties open them.
    catalog |= {"s3.endpoint": endpoint, "s3.region": "us-east-1"}
    others = made_config("s3://publish/audit", publish={"iceberg": {"catalog": catalog}})
    assert rows_of(read(others, "iceberg"), names) == expected

    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.register_filesystem(fs)
    files = "read_parquet('s3://publish/tables/images/*/*.parquet', hive_partitioning = true)"
    assert rows_of(database.sql(f"FROM {files}").to_arrow_table(), names) == expected
