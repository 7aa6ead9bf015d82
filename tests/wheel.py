"""Check a wheel with the Python of the environment that has it installed: `make wheel`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def check_files(wheel: Path) -> None:
    """Check that the wheel has the files of the package and no others."""
    package = (path for path in (ROOT / "padim_dist").rglob("*") if path.is_file())
    expected = {p.relative_to(ROOT).as_posix() for p in package if p.suffix != ".pyc"}
    assert expected >= {"padim_dist/py.typed", "padim_dist/pages/templates/report.html.j2"}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected, f"the wheel and the package differ in {held ^ expected}"


def check_commands(folder: Path) -> None:
    """Check that the installed package prints its version and runs the demo."""

    def run(command: str, *words: str) -> str:
        program = [Path(sys.executable).with_name(command), *words]
        done = subprocess.run(
            program, cwd=folder, stdout=subprocess.PIPE, text=True, check=True, timeout=600
        )
        return done.stdout.strip()

    place = run("python", "-c", "import padim_dist; print(padim_dist.__file__)")
    assert Path(place).is_relative_to(sys.prefix), f"the package is not the wheel's: {place}"
    assert run("padim-dist", "--version") == f"padim-dist {version('padim-dist')}"
    made = json.loads(run("padim-dist", "demo", "--json").splitlines()[-1])
    for name in ("report", "picture"):
        assert (folder / made[name]).stat().st_size > 10_000, f"{name}: {made[name]}"
    print(f"demo: {made['images']} images in {made['seconds']} s")


if __name__ == "__main__":
    check_files(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        check_commands(Path(folder))
