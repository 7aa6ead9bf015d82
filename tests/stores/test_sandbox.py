"""A query of a workspace in S3 reads the workspace and nothing else."""

from __future__ import annotations

import fsspec
import pytest

import padim_dist as padim
from padim_dist.errors import RequestError
from tests.api.workspace import made_config, put_run, score_rows

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
MARK = "MARKED-OUTSIDE"
ATTEMPTS = [
    "FROM read_text('s3://closed/other/secret.txt')",
    "FROM read_text('s3://closed/auditx/secret.txt')",
    "FROM read_text('s3://closed/audit/../other/secret.txt')",
    "FROM read_text('s3a://closed/other/secret.txt')",
    "FROM read_text('s3://elsewhere/secret.txt')",
    "FROM read_text('s3://*/*.txt')",
    "FROM read_text('s3://closed/*/secret.txt')",
    "FROM glob('s3://closed/*')",
    "FROM read_text('/etc/passwd')",
    "WITH a AS (COPY (SELECT 1) TO 's3://closed/audit/x.csv') FROM a",
]


def test_a_query_of_a_bucket_reads_only_the_workspace(server):
    options = {"s3": {"endpoint_url": f"http://{server[0]}:{server[1]}"}}
    fs = fsspec.filesystem("s3", **options["s3"])
    for name in ("closed", "elsewhere"):
        if fs.exists(name):
            fs.rm(name, recursive=True)
        fs.mkdir(name)
    for path in ("closed/other", "closed/auditx", "elsewhere"):
        fs.pipe(f"{path}/secret.txt", MARK.encode())
    config = made_config("s3://closed/audit", storage_options=options)
    put_run(config, "a" * 16, score_rows("a" * 16, 20))
    for source in ("scores", "'s3://closed/audit/runs/*/scores/*.parquet'"):
        assert padim.query(config, sql=f"SELECT count(*) FROM {source}").rows == [[20]]
    before = fs.find("closed")
    for sql in ATTEMPTS:
        with pytest.raises(RequestError) as refused:
            padim.query(config, sql=sql)
        assert MARK not in str(refused.value)
    fs.invalidate_cache()
    assert fs.find("closed") == before
