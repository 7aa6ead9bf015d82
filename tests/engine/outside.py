"""A Dask scheduler and workers in their own processes, as an operator starts them, with TLS."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.processes import free_port

ROOT = Path(__file__).parents[2]


def make_certificates(folder: Path) -> dict[str, str]:
    """Write an authority and a certificate; return the files as in section cluster.tls."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def sign(subject: str, public: ec.EllipticCurvePublicKey, authority: bool) -> bytes:
        names = [
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            for name in (subject, "authority")
        ]
        return (
            x509.CertificateBuilder(*reversed(names), public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .sign(authority_key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    contents = {
        "ca": sign("authority", authority_key.public_key(), authority=True),
        "cert": sign("dask", key.public_key(), authority=False),
        "key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    for name, content in contents.items():
        (folder / f"{name}.pem").write_bytes(content)
    return {name: str(folder / f"{name}.pem") for name in contents}


@dataclass
class Outside:
    """The processes of a cluster.

    Attributes
    ----------
    tls : dict of str to str
        As in section cluster.tls.
    address : str
        Address of the scheduler.
    """

    tls: dict[str, str]
    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_workers(self, how_many: int, prefix: Sequence[str] = ()) -> None:
        """Start workers, by a prefix such as ``ip netns exec NAME``, without waiting for them."""
        command = ("worker", self.address, "--nthreads=1", "--no-nanny", "--no-dashboard")
        for _ in range(how_many):
            self.workers.append(_start(prefix, command, self.tls))

    def kill_workers(self, how_many: int) -> None:
        """Kill the workers that were started last."""
        for _ in range(how_many):
            worker = self.workers.pop()
            worker.kill()
            worker.wait(60)


@contextmanager
def outside(tls: dict[str, str], host: str) -> Iterator[Outside]:
    """Run a scheduler without workers; scheduler and workers end with the block."""
    port = free_port()
    command = ("scheduler", f"--host={host}", f"--port={port}", "--protocol=tls", "--no-dashboard")
    scheduler = _start((), command, tls)
    cluster = Outside(tls, f"tls://{host}:{port}")
    try:
        yield cluster
    finally:
        cluster.kill_workers(len(cluster.workers))
        scheduler.kill()
        scheduler.wait(60)


def _start(
    prefix: Sequence[str], command: Sequence[str], tls: dict[str, str]
) -> subprocess.Popen[bytes]:
    files = [f"--tls-{option}={tls[name]}" for option, name in _OPTIONS.items()]
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "dask", *command, *files],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


_OPTIONS = {"ca-file": "ca", "cert": "cert", "key": "key"}


@contextmanager
def another_network() -> Iterator[tuple[str, str]]:
    """Make a network namespace, linked to ours, that exists during the block.

    Yields
    ------
    name : str
        Name for ``ip netns exec``.
    address : str
        Our address on the link.

    Raises
    ------
    OSError
        If this machine does not allow it.
    """
    name = f"padim-{os.getpid()}"
    ours, theirs = f"pd{os.getpid()}a", f"pd{os.getpid()}b"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        _ip("address", "add", "10.213.7.1/24", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", name, "address", "add", "10.213.7.2/24", "dev", theirs)
        _ip("-n", name, "link", "set", theirs, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield name, "10.213.7.1"
    finally:
        _ip("netns", "delete", name)  # also removes the link


def _ip(*arguments: str) -> None:
    # Without this command: OSError, too.
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
