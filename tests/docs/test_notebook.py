"""The notebook, run as an analyst does, in its own process and kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import padim_dist as padim
from tests.api.workspace import config_file

ROOT = Path(__file__).parents[2]
_RUN = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=120).execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.mark.slow
def test_the_notebook_runs(tiny_audit, tmp_path):
    """A failing cell ends the process; the outputs show the contents of the workspace."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(ROOT / "docs/analysis.ipynb"), str(tmp_path / "x.ipynb")],
        capture_output=True,
        text=True,
        timeout=240,
        env={
            **os.environ,
            "PADIM_DIST_CONFIG": str(config_file(tiny_audit, tmp_path / "c.yaml")),
            "PYTHONPATH": str(ROOT),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads((tmp_path / "x.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}) for output in outputs]
    assert sum("image/png" in data for data in shown) == 4
    texts = "".join("".join(data.get("text/plain", "")) for data in shown)
    assert padim.top(tiny_audit, n=1).anomalies[0].image_id in texts
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    normal = "status = 'scored' AND split = 'test' AND label = 'good'"
    images = len(padim.open_scores(tiny_audit.workspace).filter(normal).fetchall())
    assert f"{images} normal images at alpha 0.001" in printed


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads((ROOT / "docs/analysis.ipynb").read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells)
    assert all(cell.get("execution_count") is None for cell in cells)
