"""Tests that never end are stopped by the limits of pyproject.toml, here made short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WAITING = """
import threading, time, pytest

@pytest.fixture(scope="session")
def never_ready():
    threading.Event().wait()

def test_wait():
    threading.Thread(target=time.sleep, args=(9,), name="another thread", daemon=True).start()
    threading.Event().wait()

def test_fixture(never_ready):
    pass

def test_after():
    pass
"""
DEADLOCK = """
import ctypes

def test_deadlock():
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
"""


def run(folder: Path, test: str, *options: str) -> str:
    """Run a test file under the project's settings; return what pytest prints."""
    (folder / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *options]
    command += ["--rootdir", ".", "--numprocesses", "1", "--max-worker-restart", "0", "test_it.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_test_that_waits_fails_and_the_next_one_runs(tmp_path):
    printed = run(tmp_path, WAITING, "-o", "timeout=1")
    assert "FAILED test_it.py::test_wait - Failed: Timeout (>1.0s)" in printed
    assert "ERROR test_it.py::test_fixture - Failed: Timeout (>1.0s)" in printed
    assert "Stack of another thread" in printed
    assert "1 failed, 1 passed, 1 error" in printed


def test_a_deadlock_in_a_library_ends_the_process(tmp_path):
    printed = run(tmp_path, DEADLOCK, "-o", "timeout=1", "-o", "faulthandler_timeout=2")
    assert "crashed while running 'test_it.py::test_deadlock'" in printed
    assert "1 failed" in printed
