"""A production line: object storage, a Dask cluster, Prefect, the served flows, Prometheus."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import httpx
import psutil
import yaml
from PIL import Image, ImageEnhance

import padim_dist as padim
from infra.kubernetes.at_work import flow_runs
from padim_dist.config import load_config
from tests.alerts.prometheus import prometheus
from tests.conftest import draw
from tests.flows.client import SERVE, Prefect
from tests.flows.services import ROOT, prefect_server
from tests.processes import free_port, running, wait_until
from tests.s3.moto import moto_server
from tests.s3.proxy import FaultProxy

_OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_PRELOAD = "DASK_DISTRIBUTED__WORKER__PRELOAD"


class Line:
    """What the tests do to it, and what they ask.

    Attributes
    ----------
    storage : FaultProxy
        Way of all requests for the archive. The workspace is a local folder.
    prefect, prometheus : Prefect, Prometheus
        Clients.
    began : float
        When it began.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._images = folder, 0
        self.began = time.time()
        host, port = stack.enter_context(moto_server())
        self.storage = stack.enter_context(FaultProxy(host, port))
        self._s3 = fsspec.filesystem("s3", endpoint_url=f"http://{host}:{port}")
        self._s3.mkdir("line")
        self._scheduler = f"tcp://127.0.0.1:{free_port()}"
        pages, self._ports = free_port(), (free_port(), free_port())
        where = (f"--port={self._scheduler.rpartition(':')[2]}", "--host=127.0.0.1")
        stack.enter_context(
            self._dask("scheduler", *where, f"--dashboard-address=127.0.0.1:{pages}")
        )
        self._workers = stack.enter_context(ExitStack())
        self._nannies: list[psutil.Process] = []
        self.start_workers()
        self.path = self._configure()
        self.config = load_config(self.path)
        self.prefect = Prefect(stack.enter_context(prefect_server(folder)))
        self._serving = stack.enter_context(ExitStack())
        self._server: psutil.Process | None = None
        self._exported = f"127.0.0.1:{free_port()}"
        targets = {
            "flows": [self._exported],
            "scheduler": [f"127.0.0.1:{pages}"],
            "workers": [f"127.0.0.1:{port}" for port in self._ports],
        }
        self.prometheus = stack.enter_context(prometheus(folder, targets))

    def _configure(self) -> str:
        # Retries of the client would hide those of the workers.
        options = {
            "endpoint_url": self.storage.url,
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }
        tree = {
            "workspace": str(self._folder / "audit"),
            "storage_options": {"s3": options},
            "archive": {
                "url": "s3://line/archive",
                "train": "/good/",
                "group": "^(?P<group>[^/]+)/",
                "shard_images": 2,
            },
            "model": {"weights": "random", "resize": 72, "crop": 64, "channels": 40, "batch": 4},
            "score": {"splits": ["test"]},
            "publish": {"hive": str(self._folder / "tables")},
            "cluster": {"kind": "address", "address": self._scheduler},
        }
        path = self._folder / "line.yaml"
        path.write_text(yaml.safe_dump(tree))
        return str(path)

    @contextmanager
    def _dask(self, *words: str) -> Iterator[psutil.Process]:
        """Run a process of Dask, with the settings of infra/compose.yaml that matter here."""
        services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
        environment = {
            **os.environ,
            _PRELOAD: services["worker"]["environment"][_PRELOAD],
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "dask", *words]
        with running(command, environment, self._folder / f"dask-{words[0]}.log") as process:
            yield psutil.Process(process.pid)

    def start_workers(self) -> None:
        """Start two workers with nannies; their metrics are always at the same ports."""
        for port in self._ports:
            words = (self._scheduler, "--nthreads=1", "--memory-limit=4GiB")
            page = f"--dashboard-address=127.0.0.1:{port}"
            self._nannies.append(self._workers.enter_context(self._dask("worker", *words, page)))

    def workers(self) -> list[psutil.Process]:
        """Return the processes that do the work."""
        found = []
        for nanny in self._nannies:
            with suppress(psutil.NoSuchProcess):
                found += [p for p in nanny.children() if "--multiprocessing-fork" in p.cmdline()]
        return found

    def kill_workers(self) -> None:
        """Kill the nannies too, so that nothing starts the workers again."""
        victims = [*self._nannies, *self.workers()]
        for victim in victims:
            victim.kill()
        self._workers.close()
        self._nannies.clear()
        psutil.wait_procs(victims, 60)

    def serve(self, cron: str = "") -> None:
        """Serve the flows."""
        environment = {
            **self.prefect.environment,
            "PADIM_DIST_CONFIG": self.path,
            "PADIM_DIST_CRON": cron,
            "PADIM_DIST_METRICS": self._exported,
            "PADIM_DIST_RETRIES": "",
            "TMPDIR": str(self._folder),  # a killed process leaves its files
        }
        log = self._folder / "flows.log"
        log.unlink(missing_ok=True)
        started = self._serving.enter_context(running(SERVE, environment, log))
        wait_until(lambda: "polling for scheduled runs" in log.read_text(), 120, "for the flows")
        self._server = psutil.Process(started.pid)

    def kill_flows(self) -> None:
        """Kill the process that serves the flows."""
        assert self._server is not None
        self._server.kill()
        self._serving.close()

    def flow(self) -> psutil.Process:
        """Return the process of the flow run at work."""
        assert self._server is not None
        (found,) = flow_runs(self._server.pid)  # none if it is over
        return found

    def ask(self, path: str, **body: Any) -> Any:
        """Ask Prefect's server, again if its database is busy (503)."""
        answers: list[httpx.Response] = []

        def answered() -> bool:
            url = f"{self.prefect.environment['PREFECT_API_URL']}/{path}"
            answers.append(httpx.post(url, json=body, timeout=60))
            return answers[-1].status_code != 503

        wait_until(answered, 120, "for Prefect's server", step=1.0)
        return answers[-1].raise_for_status().json()

    def deployment(self, flow: str) -> str:
        """Return the path of a deployment at Prefect's server."""
        name = {"name": {"any_": [flow.partition("/")[2]]}}
        (found,) = self.ask("deployments/filter", deployments=name)
        return f"deployments/{found['id']}"

    def begin(self, flow: str = "nightly-audit/nightly", **parameters: Any) -> str:
        """Begin a flow run; return its id."""
        asked = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        path = f"{self.deployment(flow)}/create_flow_run"
        return str(self.ask(path, **asked, idempotency_key=uuid4().hex)["id"])

    def end(self, flow_run: str) -> dict[str, Any]:
        """Wait until a flow run is over; return it."""

        def found() -> dict[str, Any]:
            (run,) = self.ask("flow_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
            return run

        wait_until(lambda: found()["state_type"] in _OVER, 300, "for the end of the flow run")
        return found()

    def night(self) -> dict[str, Any]:
        """Run a night; return its flow run."""
        return self.end(self.begin())

    def arrive(self, images: int, light: float = 1.0, broken: bool = False) -> None:
        """Upload new images: the usual ones, in another light, or files that are none."""
        for _ in range(images):
            self._images += 1
            self._put(f"cam/line/{self._images:04d}.png", self._images, light, broken)

    def arrive_normal(self, images: int) -> None:
        """Upload images to fit on."""
        for i in range(images):
            self._put(f"cam/good/{i:02d}.png", 10_000 + i)

    def _put(self, name: str, seed: int, light: float = 1.0, broken: bool = False) -> None:
        path = self._folder / "archive" / name
        draw(path, seed)
        if light != 1.0:
            with Image.open(path) as image:
                ImageEnhance.Brightness(image).enhance(light).save(path)
        if broken:
            path.write_bytes(b"no image")
        self._s3.put_file(str(path), f"line/archive/{name}")


@contextmanager
def line(folder: Path) -> Iterator[Line]:
    """Run a line with a promoted model and served flows."""
    with ExitStack() as stack:
        found = Line(folder, stack)
        found.arrive_normal(24)
        padim.promote(found.config, model=padim.fit(found.config).model_id, note="")
        found.serve()
        found.prometheus.await_value('up{job="flows"}')
        yield found
