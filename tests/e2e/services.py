"""Servers of nightly audits, each in its own process on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from glob import glob
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.flows.services import ROOT
from tests.processes import free_port, running

S3_PORT = 9280


def install(package: str, there: str) -> None:
    """Install a Debian package unless a file of it exists."""
    if glob(there):
        return
    if os.getuid() or shutil.which("apt-get") is None:
        sys.exit(f"there is no {there}; install {package} first (Debian: apt-get install)")
    for words in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        subprocess.run(["apt-get", *words], check=True, stdout=sys.stderr, timeout=600)


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the address of a new, empty database for Prefect."""
    install("postgresql", "/usr/lib/postgresql/*/bin/initdb")
    programs = Path(sorted(glob("/usr/lib/postgresql/*/bin"))[-1])
    # PostgreSQL refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder = tempfile.mkdtemp(prefix="padim-dist-postgres-")
    if user:
        shutil.chown(folder, "postgres")
    port = free_port()

    def run(*command: str | Path) -> None:
        subprocess.run(
            [*user, *command], check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=120
        )

    data = f"{folder}/data"
    control = (programs / "pg_ctl", "--pgdata", data, "--log", f"{folder}/log")
    run(programs / "initdb", "--pgdata", data, "--auth", "trust", "--username", "prefect")
    run(*control, "--wait", "--options", f"-p {port} -h 127.0.0.1 -k {folder}", "start")
    try:
        run(programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        run(*control, "--mode", "immediate", "stop")
        shutil.rmtree(folder)


@contextmanager
def object_storage() -> Iterator[str]:
    """Yield the address of an S3 server; put its credentials into the environment."""
    script = str(ROOT / "infra/dev/radosgw")
    port = ("--port", str(S3_PORT))
    subprocess.run([script, "start", *port], check=True, timeout=900)  # it may install Ceph
    try:
        told = subprocess.run(
            [script, "env", *port], check=True, capture_output=True, text=True, timeout=60
        )
        for line in told.stdout.split():
            name, _, value = line.partition("=")
            if value:
                os.environ[name] = value
        yield os.environ["PADIM_TEST_S3"]
    finally:
        subprocess.run([script, "stop", *port], check=True, timeout=120)


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """Run a scheduler and workers with TLS, as docs/operations.md starts them.

    Yields
    ------
    address : str
        Address of the scheduler.
    tls : dict of str to str
        As in section cluster.tls.
    metrics : list of str
        Addresses of the workers' metrics.
    """
    made = folder / "tls"
    subprocess.run([ROOT / "infra/dev/certificates", made], check=True, timeout=60)
    tls = {"ca": f"{made}/ca.pem", "cert": f"{made}/cert.pem", "key": f"{made}/key.pem"}
    files = [f"--tls-ca-file={tls['ca']}", f"--tls-cert={tls['cert']}", f"--tls-key={tls['key']}"]
    address = f"tls://127.0.0.1:{free_port()}"
    ports = [free_port() for _ in range(workers)]
    with ExitStack() as stack:

        def start(*words: str) -> None:
            command = [sys.executable, "-m", "dask", *words, *files]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
            log = folder / f"dask-{words[0]}.log"
            stack.enter_context(running(command, environment, log))

        start("scheduler", "--host=127.0.0.1", f"--port={address.rpartition(':')[2]}",
              "--protocol=tls", "--no-dashboard")  # fmt: skip
        for port in ports:
            start("worker", address, "--nthreads=1", "--memory-limit=4GiB",
                  f"--dashboard-address=127.0.0.1:{port}")  # fmt: skip
        yield address, tls, [f"http://127.0.0.1:{port}/metrics" for port in ports]


def photograph(pages: Sequence[tuple[str, str]], folder: Path) -> None:
    """Save pictures of web pages in a browser."""
    install("chromium", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        for name, url in pages:
            page.goto(url, wait_until="networkidle")
            page.screenshot(path=folder / f"{name}.png", animations="disabled")
        browser.close()
