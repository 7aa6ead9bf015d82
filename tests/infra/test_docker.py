"""The Dockerfile: linted if hadolint is installed, and consistent with the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import padim_dist as padim

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra/docker/Dockerfile"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Return the instructions, with their continuation lines."""
    text = re.sub(r"\\\n\s*", "", FILE.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_hadolint_finds_nothing():
    # Also among the scripts of this interpreter, which may not be on the path.
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    hadolint = shutil.which("hadolint", path=places)
    if hadolint is None:
        pytest.skip("SKIPPED PART: hadolint is not installed")
    done = subprocess.run([hadolint, FILE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_targets_and_user(lines):
    stages = [line.split() for line in lines if line.startswith("FROM ")]
    assert [stage[3] for stage in stages] == ["build", "run", "cpu", "cuda"]
    assert [stage[1] for stage in stages[2:]] == ["run", "run"]
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK ") for line in lines)


def test_everything_installed_is_hashed(lines):
    installs = [line for line in lines if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)


def test_only_copied_files_are_sent():
    """The ignore file excludes all except the sources of COPY."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignore if line.startswith("!")}
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", FILE.read_text(), re.MULTILINE)
    assert "*" in ignore
    assert kept == {source for line in lines for source in line.split()}


def test_image_tags_are_of_this_version():
    files = [FILE, ROOT / "infra/compose.yaml", *(ROOT / "infra/kubernetes").rglob("*.yaml")]
    tags = [
        tag
        for file in files
        for tag in re.findall(r"\b\d+\.\d+\.\d+(?=-cpu|-cuda)", file.read_text())
    ]
    assert len(tags) >= 6
    assert set(tags) == {padim.__version__}
