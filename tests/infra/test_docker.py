"""The Dockerfile: linted if hadolint is installed, and consistent with the project."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
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
    assert [stage[3] for stage in stages] == ["wheels", "weights", "build", "run", "cpu", "cuda"]
    assert [stage[1] for stage in stages[:2]] == ["scratch", "scratch"]
    assert stages[2][1] == stages[3][1]  # the virtual environment links to its Python
    assert [stage[1] for stage in stages[4:]] == ["run", "run"]
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


def test_base_images_have_a_version(lines):
    for line in lines:
        words = line.split()
        if words[0] == "FROM" and words[1] not in ("scratch", "run"):
            assert re.search(r":\d+\.\d+\.\d+", words[1]), line


def test_the_command_is_in_the_path(lines, tmp_path):
    """The file that the image copies into its PATH runs the command line, from any folder."""
    (copied,) = re.findall(
        r"^COPY (\S+) /usr/local/bin/padim-dist$", "\n".join(lines), re.MULTILINE
    )
    assert (ROOT / copied).stat().st_mode & 0o111 == 0o111
    (path,) = re.findall(r"PYTHONPATH=(\S+)", "\n".join(lines))
    assert f"WORKDIR {path}" in lines
    # In the image, too, `python` is the one in the PATH.
    programs = [str((ROOT / copied).parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        ["padim-dist", "--help"],
        env={**os.environ, "PATH": os.pathsep.join(programs), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "promote" in done.stdout


def test_its_user_may_write_to_the_working_folder(lines):
    run = next(line for line in lines if "useradd" in line)
    (folder,) = re.findall(r"mkdir (\S+) && chown padim:padim (\S+)$", run)
    assert folder[0] == folder[1]
    assert [line for line in lines if line.startswith("WORKDIR")][-1] == f"WORKDIR {folder[0]}"


def test_its_user_may_read_the_weights(lines):
    """Whatever the mode of the file that was given; a folder needs x."""
    (copied,) = [line.split() for line in lines if line.startswith("COPY --from=weights")]
    assert "--chmod=755" in copied


@pytest.mark.slow
def test_everything_installed_compiles(lines):
    """The build fails if one module does not compile: PyTorch has some of later Pythons."""
    (command,) = [line for line in lines if "compileall" in line and "/opt/venv/lib" in line]
    words = shlex.split(command.removeprefix("RUN "))
    assert words[0] == "/opt/venv/bin/python"
    library = sysconfig.get_path("purelib")
    words = [sys.executable, *(library if word == "/opt/venv/lib" else word for word in words[1:])]
    # What pip has compiled is not compiled again; what it could not compile fails here, too.
    done = subprocess.run(words, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout


def test_the_driver_fits_the_locked_cuda(lines):
    """NVIDIA's toolkit compares the variable with the driver of the host."""
    locked = (ROOT / "requirements.txt").read_text()
    (version,) = re.findall(r"^nvidia-cuda-runtime==(\d+\.\d+)", locked, re.MULTILINE)
    (asked,) = [line for line in lines if "NVIDIA_REQUIRE_CUDA" in line]
    assert f'"cuda>={version}"' in asked
    # From NVIDIA's release notes of CUDA: the oldest driver of its major version.
    oldest = {"12": "525.60.13", "13": "580.65.06"}[version.split(".")[0]]
    assert f'LABEL com.nvidia.driver.minimum="{oldest}"' in lines


def test_image_tags_are_of_this_version():
    files = [FILE, ROOT / "infra/compose.yaml", *(ROOT / "infra/kubernetes").rglob("*.yaml")]
    tags = [
        tag
        for file in files
        for tag in re.findall(r"\b\d+\.\d+\.\d+(?=-cpu|-cuda)", file.read_text())
    ]
    assert len(tags) >= 6
    assert set(tags) == {padim.__version__}
