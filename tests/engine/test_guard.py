"""Scripts that start worker processes: allowed with a guard, refused without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import padim_dist

CALL = "from padim_dist.engine.cluster.guard import check_guard\n"
UNGUARDED = {
    "call": "check_guard()\n",
    "function": "def main():\n    check_guard()\n\nmain()\n",
    "block": "for _ in range(1):\n    check_guard()\n",
    "other if": "import os\nif os.name:\n    check_guard()\n",
}
GUARDED = {
    "call": 'if __name__ == "__main__":\n    check_guard()\n',
    "function": 'def main():\n    check_guard()\n\nif "__main__" == __name__:\n    main()\n',
    "thread": (
        "from threading import Thread\n"
        "if __name__ == '__main__':\n"
        "    thread = Thread(target=check_guard)\n    thread.start()\n    thread.join()\n"
    ),
}


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, *command)
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("body", UNGUARDED.values(), ids=UNGUARDED)
def test_a_script_without_a_guard_is_refused(tmp_path, body):
    (tmp_path / "script.py").write_text(CALL + body)
    done = run("script.py", cwd=tmp_path)
    assert done.returncode == 1
    line = len(CALL.splitlines()) + len(body.rstrip().splitlines())
    assert f"script.py, line {line}, starts worker processes" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr


@pytest.mark.parametrize("body", GUARDED.values(), ids=GUARDED)
def test_a_script_with_a_guard_is_not(tmp_path, body):
    (tmp_path / "script.py").write_text(CALL + body)
    done = run("script.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_code_that_is_not_imported_again_needs_no_guard(tmp_path):
    """A prompt, and ``python -m`` of a package."""
    assert run("-c", CALL + "check_guard()", cwd=tmp_path).returncode == 0
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(CALL + "check_guard()\n")
    assert run("-m", "package", cwd=tmp_path).returncode == 0


def test_a_process_that_runs_the_script_again_ends(tmp_path):
    """As a worker does: the call is refused there, too."""
    body = (
        "from multiprocessing import get_context\n"
        "if __name__ != '__main__':\n    check_guard()\n"
        "if __name__ == '__main__':\n"
        "    process = get_context('spawn').Process(target=print, args=('ran',))\n"
        "    process.start()\n    process.join(60)\n    raise SystemExit(process.exitcode)\n"
    )
    (tmp_path / "script.py").write_text(CALL + body)
    done = run("script.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "ran" not in done.stdout
    assert "starts worker processes" in done.stderr


def test_files_in_the_working_folder_do_not_replace_modules_of_python(tmp_path, monkeypatch):
    """Whatever they are called: a process that starts imports these before all else."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(padim_dist.__file__).parents[1]))
    (tmp_path / "work").mkdir()
    for name in ("types", "threading", "pickle"):
        (tmp_path / "work" / f"{name}.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "script.py").write_text(
        "import os\n"
        "from multiprocessing import get_context\n"
        "from padim_dist.engine.cluster.guard import safe_path\n"
        "if __name__ == '__main__':\n"
        "    with safe_path():\n"
        "        process = get_context('spawn').Process(target=print, args=('ran',))\n"
        "        process.start()\n        process.join(60)\n"
        "    assert 'PYTHONSAFEPATH' not in os.environ\n"
        "    raise SystemExit(process.exitcode)\n"
    )
    done = run("../script.py", cwd=tmp_path / "work")
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
