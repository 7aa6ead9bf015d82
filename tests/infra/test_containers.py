"""The run of the containers: what it can check without Docker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.dev.containers import sandbox
from tests.processes import wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None,
    reason="SKIPPED PART: namespaces need root, unshare and setpriv",
)
def test_nothing_outlives_a_run_that_is_killed(tmp_path):
    code = f"from pathlib import Path; from infra.dev.containers import sandbox; \
sandbox.run('tests.infra.mounting', Path({str(tmp_path)!r}))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        try:
            wait_until((tmp_path / "ready").exists, what="for the sandbox")
            inner = psutil.Process(process.pid).children(recursive=True)
            assert "sleep" in {child.name() for child in inner}
            assert str(tmp_path) not in Path("/proc/mounts").read_text()
            assert not list((tmp_path / "mounted").iterdir())
        finally:
            process.kill()
    _, alive = psutil.wait_procs(inner, timeout=60)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SystemExit, match=r"has files of others"):
        sandbox.clean(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_only_files_of_a_run_are_removed(tmp_path):
    for name in ("logs", "systems", "debootstrap"):
        (tmp_path / name).mkdir()
    sandbox.clean(tmp_path, logs=False)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    sandbox.clean(tmp_path)
    assert list(tmp_path.iterdir()) == []
