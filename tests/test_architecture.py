"""Arrows go one way: what may import what (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "padim_dist"
LEAVES = {"errors", "storage", "events"}
MAY_IMPORT = {
    "core": {"errors"},
    "archive": {"core", "telemetry", *LEAVES},
    "store": {"core", *LEAVES},
    "engine": {"core", "archive", "store", "config", "telemetry", *LEAVES},
    "pages": {"store"},
    "synthetic": {"events"},
    "api": {"core", "archive", "store", "engine", "pages", "synthetic", "config", *LEAVES},
    "config": {"core", "errors"},
    "summary": set(),
    "logs": {"events"},
    "telemetry": {"errors", "events"},
    "command": {"api", "config", "summary", "logs", "telemetry", "terminal", *LEAVES},
    "cli_analysis": {"command"},
    "cli": {"api", "command", "cli_analysis"},
    "terminal": {"events"},
}
OUTSIDE = {
    "core": {"torch", "torchvision", "numpy", "scipy"},
    "archive": {"torch", "torchvision", "numpy", "pyarrow", "PIL", "duckdb"},
    "store": {"torch", "torchvision", "numpy", "pyarrow", "zarr", "psutil"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def modules(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_they_may(room):
    for path in modules(room):
        own = {name.split(".")[1] for name in imports(path) if name.startswith("padim_dist.")}
        assert own <= MAY_IMPORT[room] | {room}, path


@pytest.mark.parametrize("room", OUTSIDE)
def test_rooms_know_only_their_libraries(room):
    for path in modules(room):
        outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        assert outside <= OUTSIDE[room] | {"padim_dist", "__future__"}, path


def test_dask_lives_in_the_engine_alone():
    for path in PACKAGE.rglob("*.py"):
        if "engine" not in path.parts:
            assert not {n.split(".")[0] for n in imports(path)} & {"dask", "distributed"}, path


def test_prefect_lives_in_the_flows_alone():
    for path in PACKAGE.rglob("*.py"):
        assert not {n.split(".")[0] for n in imports(path)} & {"prefect", "flows"}, path


def test_listing_an_archive_does_not_load_torch():
    """It would take ten times the memory of the listing itself."""
    code = "import sys, padim_dist.api.pipeline.index; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_every_room_is_listed():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert rooms - {"__init__", "__main__", "__pycache__", "py", *LEAVES} == set(MAY_IMPORT)


def test_modules_are_of_a_size_to_read():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
