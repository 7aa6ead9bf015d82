"""Folders with systems of Debian packages: tools of the run, and contents of base images."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.dev.containers.terminal import logged


@dataclass(frozen=True)
class System:
    """A minimal Debian.

    Attributes
    ----------
    name : str
        Name of its folder in ``systems``.
    suite : str
        Debian's release.
    packages : tuple of str
        Packages beside the required ones.
    """

    name: str
    suite: str
    packages: tuple[str, ...]


SYSTEMS = (
    # Docker itself. The compose file needs Compose 2.23 (inline configs); Debian 12 has 1.29.
    System(
        "tools",
        "trixie",
        ("docker.io", "docker-cli", "docker-buildx", "docker-compose", "iptables", "slirp4netns"),
    ),
    # Stands for Python's own image. Its Python must be that of the locked requirements.
    System(
        "python", "bookworm", ("python3-venv", "python-is-python3", "ca-certificates", "tzdata")
    ),
    # The database and Prometheus; `images/Dockerfile` makes an image of each.
    System("services", "trixie", ("postgresql", "prometheus", "wget")),
)


def fetch_debootstrap(folder: Path) -> None:
    """Unpack debootstrap and Debian's keys into the folder of a run, without installing them."""
    to = folder / "debootstrap"
    with tempfile.TemporaryDirectory() as here:
        log = folder / "logs/debian.log"
        logged("package lists", ["apt-get", "update"], log)
        names = ("debootstrap", "debian-archive-keyring")
        subprocess.run(
            ["apt-get", "--quiet", "--option=APT::Sandbox::User=root", "download", *names],
            cwd=here,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=300,
        )
        for package in Path(here).glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, to], check=True, timeout=60)


def _mirror() -> str:
    """Return the mirror that apt uses for Debian itself."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = (line.split() for line in told.stdout.splitlines())
    return next(
        (words[1] for words in lines if words[0] == "Debian"), "http://deb.debian.org/debian"
    )


def main(folder: Path) -> None:
    """Make all systems."""
    tool = folder / "debootstrap"
    for system in SYSTEMS:
        command: list[str | Path] = [
            "env",
            f"DEBOOTSTRAP_DIR={tool}/usr/share/debootstrap",
            tool / "usr/sbin/debootstrap",
            "--variant=minbase",
            f"--keyring={tool}/usr/share/keyrings/debian-archive-keyring.gpg",
            f"--include={','.join(system.packages)}",
            system.suite,
            folder / "systems" / system.name,
            _mirror(),
        ]
        logged(f"{system.name} from Debian packages", command, folder / "logs/debian.log")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
