"""A query of a workspace in an object store reads the workspace and nothing else."""

from __future__ import annotations

import pytest

import padim_dist as padim
from padim_dist.errors import RequestError
from tests.api.workspace import made_config, put_run, score_rows
from tests.stores.servers import Store

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
MARK = "MARKED-OUTSIDE"
ALIASES = {"s3": "s3a", "gs": "gcs", "abfs": "az"}
ATTEMPTS = [
    "FROM read_text('{0}://closed/other/secret.txt')",
    "FROM read_text('{0}://closed/auditx/secret.txt')",
    "FROM read_text('{0}://closed/audit/../other/secret.txt')",
    "FROM read_text('{1}://closed/other/secret.txt')",
    "FROM read_text('{0}://elsewhere/secret.txt')",
    "FROM read_text('{0}://*/*.txt')",
    "FROM read_text('{0}://closed/*/secret.txt')",
    "FROM glob('{0}://closed/*')",
    "FROM read_text('/etc/passwd')",
    "WITH a AS (COPY (SELECT 1) TO '{0}://closed/audit/x.csv') FROM a",
]


def test_a_query_of_a_bucket_reads_only_the_workspace(store: Store):
    names = (store.protocol, ALIASES[store.protocol])
    closed, _ = store.bucket("closed"), store.bucket("elsewhere")
    fs = store.fs
    for path in ("closed/other", "closed/auditx", "elsewhere"):
        fs.pipe_file(f"{path}/secret.txt", MARK.encode())
    config = made_config(f"{closed}/audit", storage_options=store.storage_options)
    put_run(config, "a" * 16, score_rows("a" * 16, 20))
    for source in ("scores", f"'{closed}/audit/runs/*/scores/*.parquet'"):
        assert padim.query(config, sql=f"SELECT count(*) FROM {source}").rows == [[20]]
    before = store.fs.find("closed")
    for sql in ATTEMPTS:
        with pytest.raises(RequestError) as refused:
            padim.query(config, sql=sql.format(*names))
        assert MARK not in str(refused.value)
    assert store.fs.find("closed") == before
