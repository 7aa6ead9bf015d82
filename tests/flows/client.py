"""A client of a Prefect server for tests, which starts flow runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.processes import running, wait_until

SERVE = (sys.executable, "-m", "flows.serve")
RUN = """
import sys
from flows.{module} import {flow}
if __name__ == "__main__":
    {flow}(return_state=True, **__import__("json").loads(sys.argv[1]))
"""


class Prefect:
    """The server's HTTP interface, and flow runs in their own processes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def ask(self, path: str, **body: Any) -> Any:
        reply = httpx.post(f"{self.environment['PREFECT_API_URL']}/{path}", json=body, timeout=30)
        reply.raise_for_status()
        return reply.json()

    def start(self, flow: str, module: str = "night", **parameters: Any) -> subprocess.Popen:
        code = RUN.format(module=module, flow=flow)
        command = [sys.executable, "-c", code, json.dumps(parameters)]
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)

    def run(self, flow: str, module: str = "night", **parameters: Any) -> dict[str, Any]:
        """Run a flow to its end; return the newest flow run, with its log as ``stderr``."""
        process = self.start(flow, module, **parameters)
        try:
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
        assert process.returncode == 0, errors
        return {**self.newest(), "stderr": errors}

    def newest(self) -> dict[str, Any]:
        """Return the flow run that began last; others may be scheduled."""
        found = self.ask("flow_runs/filter", sort="START_TIME_ASC")
        return [run for run in found if run["start_time"]][-1]

    def tasks(self, flow_run: str) -> list[dict[str, Any]]:
        return self.ask("task_runs/filter", task_runs={"flow_run_id": {"any_": [flow_run]}})

    def artifacts(self, flow_run: str) -> dict[str, dict[str, Any]]:
        asked = {"flow_run_id": {"any_": [flow_run]}}
        found = self.ask("artifacts/filter", artifacts=asked, sort="UPDATED_DESC", limit=50)
        return {artifact["key"]: artifact for artifact in found}

    @contextmanager
    def serving(self, config: str, folder: Path, **settings: str) -> Iterator[int]:
        """Yield the id of a process that serves the flows, without a schedule."""
        environment = {**self.environment, "PADIM_DIST_CONFIG": config, "PADIM_DIST_CRON": ""}
        environment |= settings
        log = folder / "serve.log"
        log.unlink(missing_ok=True)

        def polls() -> bool:
            assert process.poll() is None, log.read_text()
            return "polling for scheduled runs" in log.read_text()

        with running(SERVE, environment, log) as process:
            wait_until(polls, 120, "for flows to be served")
            yield process.pid

    def command(self, *words: str, cwd: Path | None = None) -> str:
        """Return the output of Prefect's command."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *words],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
