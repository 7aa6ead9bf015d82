"""Runs in a sandbox: mounts a folder, starts a process, says so, and waits for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "mounted").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "mounted"], check=True)
    (folder / "mounted/file").touch()
    process = subprocess.Popen(["sleep", "600"])
    (folder / "ready").touch()
    process.wait()
