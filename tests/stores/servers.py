"""Servers of object stores for tests: S3 (moto), GCS and Azure (emulators)."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec

from tests.processes import free_port, running, wait_until
from tests.s3.moto import moto_server


@dataclass(frozen=True)
class Store:
    """An object store: the protocol of its addresses, fsspec's options for it, and a secret.

    The secret is in the options, or in the environment.
    """

    protocol: str
    options: dict[str, Any]
    secret: str

    @property
    def storage_options(self) -> dict[str, dict[str, Any]]:
        return {self.protocol: self.options}

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """A file system that shares nothing with those of the product."""
        options = {**self.options, "use_listings_cache": False, "skip_instance_cache": True}
        return fsspec.filesystem(self.protocol, **options)

    def bucket(self, name: str, archive: Path | None = None) -> str:
        """Make an empty bucket, with a copy of an archive in it; return its address."""
        fs = self.fs
        fs.mkdir(name)
        if archive:
            fs.put(f"{archive}/", f"{name}/photos/", recursive=True)
        return f"{self.protocol}://{name}"


def missing(name: str) -> str | None:
    """Return what a store's tests lack; None if they can run."""
    wanted = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs"}[name]
    if find_spec(wanted) is None:
        return f"{wanted} is not installed"
    if name == "gcs" and find_spec("gcp_storage_emulator") is None:
        return "gcp-storage-emulator is not installed"
    if name == "azure" and azurite() is None:
        return "azurite is not installed"
    return None


def azurite() -> str | None:
    """Return the program of Azurite's blob service."""
    beside = Path(sys.executable).parent
    return shutil.which("azurite-blob", path=f"{beside}{os.pathsep}{os.environ['PATH']}")


@contextmanager
def serve(name: str, folder: Path) -> Iterator[Store]:
    """Run the server of a store until the block ends."""
    with {"s3": _serve_s3, "gcs": _serve_gcs, "azure": _serve_azure}[name](folder) as store:
        yield store


@contextmanager
def _serve_s3(_: Path) -> Iterator[Store]:
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    if url := os.environ.get("PADIM_TEST_S3"):
        yield Store("s3", {"endpoint_url": url}, secret)
        return
    with moto_server() as (host, port):
        yield Store("s3", {"endpoint_url": f"http://{host}:{port}"}, secret)


@contextmanager
def _serve_gcs(folder: Path) -> Iterator[Store]:
    port = free_port()
    command = [sys.executable, "-m", "tests.stores.gcs", str(port)]
    with running(command, dict(os.environ), folder / "gcs.log"):
        _wait(port)
        options = {"endpoint_url": f"http://127.0.0.1:{port}", "project": "padim-test-secret"}
        yield Store("gs", {**options, "token": "anon"}, options["project"])


@contextmanager
def _serve_azure(folder: Path) -> Iterator[Store]:
    port, program = free_port(), azurite()
    assert program
    account, key = "padimtest", base64.b64encode(secrets.token_bytes(64)).decode()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
    command += ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"}
    with running(command, environment, folder / "azure.log"):
        _wait(port)
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": account,
            "AccountKey": key,
            "BlobEndpoint": f"http://127.0.0.1:{port}/{account}",
        }
        connection = ";".join(f"{name}={value}" for name, value in parts.items())
        yield Store("abfs", {"connection_string": connection}, key)


def _wait(port: int) -> None:
    def answers() -> bool:
        with socket.socket() as found:
            found.settimeout(1)
            return found.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, 60, "for an emulator")
