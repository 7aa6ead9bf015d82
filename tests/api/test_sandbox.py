"""A query reads the workspace and nothing else."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import padim_dist as padim
from padim_dist.config import Config
from padim_dist.errors import RequestError
from tests.api.workspace import made_config, put_run, region_rows, score_rows

RUN = "a" * 16
MARK = "MARKED-OUTSIDE"
marked = pa.table({"text": [MARK]})  # a replacement scan would find it


def serialized(sql: str) -> str:
    """Return a statement as DuckDB's JSON, quoted."""
    with duckdb.connect() as database:
        row = database.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    assert row
    return "'" + row[0].replace("'", "''") + "'"


COPY = "COPY (SELECT 1) TO '{ws}/x.csv'"
ATTEMPTS = [
    # Statements that write, hidden in one that reads.
    f"EXPLAIN ANALYZE {COPY}",
    "EXPLAIN (ANALYZE /* ) SELECT 1 -- */) " + COPY,
    "EXPLAIN (ANALYZE, FORMAT json) " + COPY,
    "EXPLAIN /**/ ANALYZE /* SELECT */ " + COPY,
    "explain\u00a0analyze " + COPY,
    "EXPLAIN\n--\nANALYZE\n" + COPY,
    "EXPLAIN (ANALYZE) " + COPY,
    f"EXPLAIN ANALYZE WITH a AS ({COPY}) FROM a",
    f"WITH a AS ({COPY}) FROM a",
    f"SELECT (WITH a AS ({COPY}) SELECT count(*) FROM a)",
    f"FROM scores WHERE EXISTS (WITH a AS ({COPY}) FROM a)",
    "WITH a AS (INSERT INTO models SELECT * FROM models RETURNING *) FROM a",
    "WITH a AS (DELETE FROM runs RETURNING *) FROM a",
    "FROM query('WITH a AS (COPY (SELECT 1) TO ''{ws}/x.csv'') FROM a')",
    "FROM system.main.\"QUERY\"('FROM 1')",
    "FROM json_execute_serialized_sql({json})",
    "SELECT 1; " + COPY,
    "SELECT 1;;" + COPY + ";",
    f"PREPARE p AS {COPY}",
    "EXECUTE p",
    "CALL checkpoint()",
    "FROM force_checkpoint()",
    "PRAGMA enable_profiling",
    "FROM enable_profiling(format = 'json', save_location = '{out}/x.json')",
    "FROM enable_logging(storage = 'file', storage_path = '{out}/x')",
    "PIVOT runs ON run_id",
    "EXPORT DATABASE '{out}/x'",
    "IMPORT DATABASE '{out}'",
    "ATTACH '{out}/x.db'",
    "CREATE MACRO f() AS TABLE FROM read_text('{out}/secret.txt')",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "INSTALL httpfs",
    "LOAD '{out}/x.duckdb_extension'",
    "CREATE PERSISTENT SECRET (TYPE s3)",
    # Files outside, by every kind of name.
    "FROM read_text('{out}/secret.txt')",
    "FROM read_blob('{out}/*')",
    "FROM read_csv('{out}/secret.txt')",
    "FROM read_csv('{ws}/x', store_rejects = true, rejects_table = 't')",
    "FROM read_json('{out}/secret.json')",
    "FROM read_parquet('{out}/secret.parquet')",
    "FROM parquet_metadata('{out}/secret.parquet')",
    "FROM sniff_csv('{out}/secret.txt')",
    "FROM '{out}/secret.parquet'",
    "FROM '{out}/secret.txt'",
    "FROM glob('{out}/*')",
    "FROM glob('{ws}/../*/*')",
    "FROM read_text('{ws}/../outside/secret.txt')",
    "FROM read_text('{ws}/runs/./../../outside/secret.txt')",
    "FROM read_text('{ws}/link/secret.txt')",
    "FROM read_text('{ws}/*/secret.txt')",
    "FROM read_text('{ws}/linked.txt')",
    "FROM read_text('{ws}x/secret.txt')",
    "FROM read_text(['{ws}/runs/x', '{out}/secret.txt'])",
    "FROM read_text('file://{out}/secret.txt')",
    "FROM read_text('FILE:{out}/secret.txt')",
    "FROM query_table('{out}/secret.parquet')",
    "SELECT * FROM runs, LATERAL (FROM read_text('{out}/secret.txt'))",
    "FROM read_duckdb('{out}/x.db')",
    "FROM read_text('/proc/self/environ')",
    "FROM read_text('/etc/passwd')",
    "SUMMARIZE FROM read_text('{out}/secret.txt')",
    "DESCRIBE FROM '{out}/secret.parquet'",
    # The process, its variables, and the network.
    "FROM marked",
    "FROM pandas_scan(1)",
    "FROM arrow_scan(1, 1, 1)",
    "FROM python_map_function(NULL)",
    "SELECT getenv('MARKED')",
    "SELECT current_setting('http_proxy')",
    "FROM duckdb_settings()",
    "FROM duckdb_secrets(redact = false)",
    "FROM read_parquet('http://127.0.0.1:{port}/x.parquet')",
    "FROM 'https://127.0.0.1:{port}/x.csv'",
    "FROM read_parquet('s3://127.0.0.1:{port}/x.parquet')",
    "FROM read_text('memory://outside/secret.txt')",
    "FROM read_text('data:text/plain,x')",
]
READS = [
    "FROM scores",
    "SELECT count(*), max(score) FROM scores WHERE status = 'scored'",
    'SELECT "group", quantile_cont(score, 0.99) FROM scores GROUP BY ALL ORDER BY 1',
    "FROM scores JOIN regions USING (image_id) LIMIT 5",
    "FROM runs",
    'SELECT score, row_number() OVER (PARTITION BY "group" ORDER BY score) FROM scores',
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) FROM t",
    "FROM runs UNION ALL FROM runs",
    "FROM range(10) t(i) JOIN scores ON shard = i",
    "SELECT unnest([1, 2])",
    "PIVOT scores ON \"group\" IN ('a', 'b') USING avg(score)",
    "FROM histogram(scores, score)",
    "SHOW TABLES",
    "DESCRIBE scores",
    "SUMMARIZE scores",
    "EXPLAIN FROM scores",
    "EXPLAIN ANALYZE FROM scores",
    "EXPLAIN (FORMAT json) SELECT count(*) FROM scores",
    "-- a comment\nSELECT 'ünïcode; COPY' AS x",
    "FROM read_parquet('{ws}/runs/*/scores/*.parquet')",
    "SELECT content FROM read_text('{ws}/runs/*/run.json')",
    "FROM glob('{ws}/**')",
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Return a local workspace, files outside of it, and a port at which nobody may knock."""
    root = tmp_path_factory.mktemp("sandbox")
    folder, outside = root / "ws", root / "outside"
    config = made_config(str(folder))
    rows = score_rows(RUN, 60)
    put_run(config, RUN, rows, regions=region_rows(rows), flagged=6)
    outside.mkdir()
    (outside / "secret.txt").write_text(f"text\n{MARK}\n")
    (outside / "secret.json").write_text(json.dumps({"text": MARK}))
    pq.write_table(marked, outside / "secret.parquet")
    (root / "wsx").mkdir()
    (root / "wsx/secret.txt").write_text(MARK)
    fsspec.filesystem("memory").pipe("/outside/secret.txt", MARK.encode())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield config, {"ws": folder, "out": outside, "port": server.getsockname()[1]}, server


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def answer(config: Config, sql: str) -> tuple[bool, str]:
    """Return whether a query was run, and its rows or the message."""
    try:
        return True, str(padim.query(config, sql=sql).rows)
    except RequestError as error:
        return False, str(error)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_query_leaves_the_workspace(places, attempt, monkeypatch):
    config, names, server = places
    monkeypatch.setenv("MARKED", MARK)
    monkeypatch.setenv("HTTP_PROXY", f"http://{MARK}@127.0.0.1:9")
    root = names["ws"].parent
    before = files(root)
    links = names["ws"] / "link", names["ws"] / "linked.txt"
    links[0].symlink_to(names["out"])
    links[1].symlink_to(names["out"] / "secret.txt")
    sql = attempt.format(json=serialized("WITH a AS (COPY (SELECT 1) TO 'x') FROM a"), **names)
    try:
        was_run, found = answer(config, sql)
    finally:
        for link in links:
            link.unlink()
    assert MARK not in found
    # Only these may be run, and find nothing or names of this place.
    assert not was_run or "current_setting" in sql or "'{ws}" in attempt
    assert files(root) == before
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize("sql", READS)
def test_a_query_reads_views_and_files_of_the_workspace(places, sql):
    config, names, _ = places
    assert padim.query(config, sql=sql.format(**names)).rows


def test_a_linked_workspace_is_read(places, tmp_path):
    """The workspace, or its folder of runs, may be a link to a larger disk."""
    _, names, _ = places
    (tmp_path / "link").symlink_to(names["ws"])
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws/runs").symlink_to(names["ws"] / "runs")
    for name in ("link", "ws"):
        config = made_config(str(tmp_path / name))
        assert padim.query(config, sql="SELECT count(*) FROM scores").rows == [[60]]


IN_A_STORE = [
    "FROM read_text('memory://other/secret.txt')",
    "FROM read_text('memory:///other/secret.txt')",
    "FROM read_text('memory://ws/../other/secret.txt')",
    "FROM read_text('memory://wsx/secret.txt')",
    "FROM read_text('memory://*/secret.txt')",
    "FROM glob('memory://*/*')",
    "FROM read_text('{out}/secret.txt')",
    "FROM read_text('s3://ws/x')",
    "WITH a AS (COPY (SELECT 1) TO 'memory://ws/x.csv') FROM a",
]


def test_a_query_of_a_store_reads_only_the_workspace(places):
    _, names, _ = places
    memory = fsspec.filesystem("memory")
    config = made_config("memory://ws")
    rows = score_rows(RUN, 20)
    put_run(config, RUN, rows)
    for name in ("other", "wsx"):
        memory.pipe(f"/{name}/secret.txt", MARK.encode())
    try:
        assert padim.query(config, sql="SELECT count(*) FROM scores").rows == [[20]]
        files = "memory://ws/runs/*/scores/*.parquet"
        assert padim.query(config, sql=f"SELECT count(*) FROM '{files}'").rows == [[20]]
        for sql in IN_A_STORE:
            was_run, found = answer(config, sql.format(**names))
            assert not was_run, sql
            assert MARK not in found
        assert not memory.exists("/ws/x.csv")
    finally:
        for name in ("ws", "other", "wsx", "outside"):
            memory.rm(f"/{name}", recursive=True)


def test_large_results_go_to_a_private_folder(places):
    config, _, _ = places
    sql = "SELECT current_setting('temp_directory'), current_setting('allowed_directories')"
    (folder, _), *_ = padim.query(config, sql=sql).rows
    assert Path(folder).parent.stat().st_mode & 0o777 == 0o700
