"""Which packages may import which (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "padim_dist"
LEAVES = {
    "errors",
    "bodies",
    "s3",
    "local_files",
    "storage",
    "events",
    "redaction",
    "escaping",
    "vision",
}
MAY_IMPORT = {
    "core": {"errors", "vision"},
    "archive": {"core", "telemetry", *LEAVES},
    "store": {"core", *LEAVES},
    "engine": {"core", "archive", "store", "config", "telemetry", *LEAVES},
    "pages": {"core", "store", "redaction", "escaping"},
    "synthetic": {"events"},
    "api": {"core", "archive", "store", "engine", "pages", "synthetic", "config", *LEAVES},
    "config": {"core", "errors", "archive"},
    "telemetry": {"core", "errors", "events"},
    "cli": {"api", "config", "store", "telemetry", *LEAVES},
}
INSIDE = {
    ("archive", "films"): set(),
    ("archive", "listing"): {"films"},
    ("archive", "reading"): {"films"},
    ("api", "settings"): set(),
    ("api", "sql"): {"settings"},
    ("api", "pipeline"): {"settings", "sql"},
    ("api", "analysis"): {"settings", "sql"},
    ("api", "publish"): {"settings", "sql"},
    ("api", "labels"): {"settings", "sql"},
    ("api", "retention"): {"settings", "sql"},
    ("api", "integrity"): {"settings", "sql", "pipeline"},
    ("api", "nights"): {"settings", "sql", "pipeline", "analysis", "publish", "retention"},
    ("api", "report"): {"settings", "sql", "analysis", "labels"},
}
"""Which rooms of the same folder a room may import, besides modules that are in no room."""
OUTSIDE = {
    "core": {"torch", "timm", "numpy", "scipy"},
    "archive": {
        *("torch", "numpy", "pyarrow", "PIL", "tifffile", "imagecodecs", "duckdb"),
        *("regex", "av"),
    },
    "store": {
        *("torch", "safetensors", "numpy", "pyarrow", "zarr", "psutil", "pydantic"),
    },
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


@pytest.mark.parametrize("room", INSIDE, ids="/".join)
def test_rooms_inside_a_room_import_only_what_they_may(room):
    rooms = {inner for outer, inner in INSIDE if outer == room[0]}
    for path in (PACKAGE / room[0] / room[1]).rglob("*.py"):
        start = f"padim_dist.{room[0]}."
        own = {name.split(".")[2] for name in imports(path) if name.startswith(start)}
        assert own & rooms <= INSIDE[room] | {room[1]}, path


def test_every_inner_room_is_listed():
    for outer in ("api", "archive"):
        rooms = {path.parent.name for path in (PACKAGE / outer).glob("*/__init__.py")}
        assert rooms == {inner for folder, inner in INSIDE if folder == outer}


@pytest.mark.parametrize("room", OUTSIDE)
def test_rooms_know_only_their_libraries(room):
    for path in modules(room):
        outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        assert outside <= OUTSIDE[room] | {"padim_dist", "__future__"}, path


def test_only_the_engine_imports_dask():
    for path in PACKAGE.rglob("*.py"):
        if "engine" not in path.parts:
            assert not {n.split(".")[0] for n in imports(path)} & {"dask", "distributed"}, path


def test_only_the_flows_import_prefect():
    for path in PACKAGE.rglob("*.py"):
        assert not {n.split(".")[0] for n in imports(path)} & {"prefect", "flows"}, path


LIGHT = [
    "api.pipeline.index",
    "api.analysis.query",
    "api.analysis.top",
    "api.analysis.compare",
    "api.analysis.export",
    "api.analysis.compact",
    "api.labels.label",
    "api.nights.history",
    "api.nights.nights",
    "api.nights.promotions",
    "api.retention.prune",
    "api.publish.publish",
    "cli.app",
]
"""Modules behind commands that compute nothing: listing, asking, approving."""


def test_commands_that_compute_nothing_do_not_load_torch():
    """Loading it takes seconds, and ten times the memory of a listing."""
    names = ", ".join(f"padim_dist.{name}" for name in LIGHT)
    code = f"import sys, {names}; sys.exit(bool({{'torch', 'zarr', 'scipy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_the_public_names_are_found_by_people_and_type_checkers():
    import padim_dist

    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("padim_dist.")
        for alias in node.names
    }
    assert typed | {"__version__"} == set(padim_dist.__all__) == set(dir(padim_dist))
    for name in padim_dist.__all__:
        assert getattr(padim_dist, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'fti'"):
        padim_dist.__getattr__("fti")


def test_every_room_is_listed():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert rooms - {"__init__", "__main__", "__pycache__", "py", *LEAVES} == set(MAY_IMPORT)


def test_modules_and_rooms_are_of_a_size_to_read():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert len(list(folder.glob("*.py"))) <= 20 + 1, folder


def test_each_file_of_a_run_has_one_owner():
    """Only the store contains the file names, and one module that of the head."""
    for path in PACKAGE.rglob("*.py"):
        strings = {n.value for n in ast.walk(ast.parse(path.read_text())) if is_path(n)}
        assert path.name == "run.py" or not any("/run.json" in s for s in strings), path
        if "store" not in path.parts:
            for name in ("heatmaps.zarr", "means.zarr", "drift.zarr", "compact.json"):
                assert not any(s.endswith(name) for s in strings), (path, name)


def is_path(node: ast.AST) -> bool:
    """Return whether a node is a string without spaces, so not a docstring."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value


@pytest.mark.parametrize("is_on", [True, False])
def test_an_import_leaves_the_collector_of_cycles_as_it_was(is_on):
    code = (
        f"import gc; (gc.enable if {is_on} else gc.disable)(); import padim_dist; padim_dist.top; "
        f"assert gc.isenabled() is {is_on}"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
