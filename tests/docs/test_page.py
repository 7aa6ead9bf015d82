"""The page for analysts: its SQL runs, and its table lists the existing columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.api.sql.sandbox import readable
from tests.api.workspace import made_config, put_run, region_rows, score_rows

PAGE = (Path(__file__).parents[2] / "docs/analysis.md").read_text()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = made_config(str(tmp_path_factory.mktemp("page") / "audit"))
    rows = score_rows("a" * 16, 50)
    put_run(config, "a" * 16, rows, regions=region_rows(rows), flagged=5)
    return config


def test_its_examples_run(config):
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    statements = [part for part in block.split(";") if part.strip()]
    commands = re.findall(r"padim-dist query .*?(?:'(S.*?)'|\"(F.*?)\")\n", PAGE)
    statements += [one or other for one, other in commands]
    assert len(statements) == 9
    for sql in statements:
        readable(sql)
        assert padim.query(config, sql=sql).columns
    assert len(padim.query(config, sql=statements[0]).rows) == 5


def test_its_table_lists_the_existing_columns(config):
    database = padim.connect(config)
    for view in ("runs", "nights", "models"):
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{view}`")]
        told = re.sub(r"\(.*?\)", "", row.split("|")[3])
        assert [name.strip() for name in told.split(",")] == database.sql(f"FROM {view}").columns
