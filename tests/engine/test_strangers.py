"""A local cluster is closed to other users of the machine."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from padim_dist.config import ClusterConfig
from padim_dist.engine.cluster.local import open_client, open_local

# The stranger knows all that ps, ss and ls tell. It imports first: Python may lie where only its
# owner reads.
STRANGER = """
import json, logging, os, sys, urllib.request
import tornado.platform.asyncio
from distributed import Client, Security
from distributed.comm import tcp

asked, own = json.load(sys.stdin), Security.temporary()
os.setgroups([]), os.setgid(asked["gid"]), os.setuid(asked["uid"])
logging.disable()

def read(path):
    return open(path).read(8)

def names(path):
    return os.listdir(path)

def submitted(address, security, path):
    with Client(address, timeout=asked["patience"], security=security) as client:
        return client.submit(read, path, pure=False).result(timeout=20)

def page(port, path):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).read().decode()

address, path = asked["address"], asked["secret"]
plain, encrypted = (f"{kind}{address[3:]}" for kind in ("tcp", "tls"))
attempts = {
    "read the file": lambda: read(path),
    "submit without a certificate": lambda: submitted(plain, None, path),
    "submit with a certificate of its own": lambda: submitted(encrypted, own, path),
    "list the folder of a worker": lambda: names(asked["folder"]),
    **{
        f"read {what} of {pid}": lambda pid=pid, what=what: read(f"/proc/{pid}/{what}")
        for pid in asked["pids"] for what in ("environ", "mem", "maps")
    },
    **{
        f"see {port}{path}": lambda port=port, path=path: page(port, path)
        for port in asked["ports"]
        for path in ("/status", "/json/identity.json")
    },
}
got, failed = {}, {}
for name, attempt in attempts.items():
    try:
        got[name] = attempt()
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps([got, failed]))
"""


def listening() -> set[int]:
    """Return the ports on which this process and its children listen."""
    own = psutil.Process()
    return {
        c.laddr.port
        for process in (own, *own.children())
        for c in process.net_connections()
        if c.status == "LISTEN"
    }


def stranger(
    client: Client, secret: Path, others: set[int], patience: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Let another user attack a cluster; return what attempts got, and why others failed.

    `others` are ports of other clusters of this process.
    """
    own = psutil.Process()
    processes = [own, *own.children()]
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    nobody = pwd.getpwnam("nobody")
    asked = {
        "patience": patience,
        "uid": nobody.pw_uid,
        "gid": nobody.pw_gid,
        "address": client.scheduler.address,
        "secret": str(secret),
        "folder": str(Path(next(iter(workers))["local_directory"]).parents[1]),
        "pids": [process.pid for process in processes],
        "ports": sorted(listening() - others),
    }
    done = subprocess.run(
        [sys.executable, "-c", STRANGER],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    got, failed = json.loads(done.stdout)
    return got, failed


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="SKIPPED PART: only root can act as another user")
def test_another_user_of_the_machine_gets_nothing(tmp_path):
    secret = tmp_path / "image"
    secret.write_text("picture")
    secret.chmod(0o600)
    config, others = ClusterConfig(workers=1, memory="2GiB"), listening()
    with open_client(config, 1) as client:
        assert client.submit(os.getuid, pure=False).result(timeout=60) == os.getuid()
        assert stranger(client, secret, others, 2.0)[0] == {}
    # Without TLS and with Dask's pages the same attempts succeed.
    with open_local(config, 1, None) as client:
        got, failed = stranger(client, secret, others, 60.0)
    assert got.get("submit without a certificate") == "picture", failed
    assert sum(name.endswith("/json/identity.json") for name in got) == 1
