"""The services of the compose file: up, scaled, healthy, observed, down."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import httpx

from infra.dev.containers.docker import Docker
from infra.dev.containers.terminal import logged

PREFECT = "http://127.0.0.1:4200"
DASK = "http://127.0.0.1:8787"
S3 = "http://127.0.0.1:8333"
PROMETHEUS = "http://127.0.0.1:9090"


def wait(what: str, true: Callable[[], Any], seconds: float) -> Any:
    """Return the first true value of a function that is called every second.

    Raises
    ------
    SystemExit
        If there is none in time.
    """
    end = monotonic() + seconds
    while True:
        if found := true():
            return found
        if monotonic() > end:
            sys.exit(f"containers: waited {seconds:.0f} s for {what}")
        sleep(1)


class Stack:
    """The compose file of the copied checkout, with its ``.env``."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self.infra = docker.system / "checkout/infra"
        self.log = docker.logs / "compose.log"

    def command(self, *words: str) -> list[str]:
        """Return the command line of ``docker compose`` with some arguments."""
        files = ("compose.yaml", "dev/containers/compose.override.yaml")
        named = [word for file in files for word in ("--file", f"/checkout/infra/{file}")]
        return self.docker.command("compose", *named, *words)

    def setting(self, name: str, value: str | None = None) -> str:
        """Return a line of ``.env``; with a value, set it first."""
        path = self.infra / ".env"
        lines = dict(line.partition("=")[::2] for line in path.read_text().splitlines())
        if value is not None:
            lines[name] = value
            path.write_text("".join(f"{key}={text}\n" for key, text in lines.items()))
        return lines[name]

    def up(self, title: str) -> None:
        """Bring up what is not up, and wait until it is healthy."""
        words = ("--progress=plain", "up", "--detach", "--wait", "--pull", "never")
        logged(title, self.command(*words), self.log)

    def down(self) -> None:
        """Remove all containers, networks and volumes; check that none is left."""
        words = ("--progress=plain", "down", "--volumes", "--remove-orphans")
        logged("compose down", self.command(*words), self.log)
        left = self.docker.ask("ps", "--all", "--quiet") + self.docker.ask(
            "volume", "ls", "--quiet"
        )
        left += self.docker.ask("network", "ls", "--quiet", "--filter", "type=custom")
        if left:
            sys.exit(f"containers: left by 'compose down': {left}")

    def keep_logs(self) -> None:
        """Write the logs of all services to a file."""
        with (self.docker.logs / "services.log").open("wb") as file:
            command = self.command("logs", "--no-color", "--timestamps")
            subprocess.run(command, stdout=file, stderr=file, timeout=120)

    def padim(self, *words: str) -> dict[str, Any]:
        """Run a command of the package in the container of the flows; return its result."""
        command = self.command("exec", "-T", "flows", "padim-dist", *words, "--json")
        with (self.docker.logs / "commands.log").open("ab") as log:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=600)
        if done.returncode:
            sys.exit(
                f"containers: padim-dist {words[0]}: exit code {done.returncode}; see {log.name}"
            )
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def containers(self) -> list[dict[str, Any]]:
        """Return all containers, also those that have ended."""
        lines = self.docker.ask(*self.command("ps", "--all", "--format", "json")[3:]).splitlines()
        return [json.loads(line) for line in lines]

    def unhealthy(self) -> list[str]:
        """Return what is not as it should be, a line a container."""
        return [
            f"{found['Name']}: {found['State']}, {found['Health'] or 'no health check'}"
            for found in self.containers()
            if (found["State"], found["Health"]) != ("running", "healthy")
            and (found["Service"], found["State"], found["ExitCode"]) != ("buckets", "exited", 0)
        ]

    def workers(self) -> int:
        """Return the number of workers that Dask's scheduler knows."""
        text = httpx.get(f"{DASK}/metrics", timeout=30).text
        counts = re.findall(r"^dask_scheduler_workers\{.*\} ([0-9.]+)$", text, re.MULTILINE)
        return round(sum(map(float, counts)))

    def pages(self) -> None:
        """Check pages and files that people open.

        Raises
        ------
        httpx.HTTPError
            If one does not come.
        SystemExit
            If one is not what it should be.
        """
        # Prefect answers other requests than those of browsers by 404.
        with httpx.Client(
            headers={"Accept": "text/html"}, timeout=30, follow_redirects=True
        ) as web:
            for url, expected in ((f"{PREFECT}/runs", "prefect"), (f"{DASK}/status", "bokeh")):
                page = web.get(url).raise_for_status()
                if expected not in page.text.lower():
                    sys.exit(f"containers: {url} does not contain {expected!r}")
            script = re.search(r'src="(/[^"]+\.js)"', web.get(f"{PREFECT}/runs").text)
            if script is None:
                sys.exit("containers: Prefect's page names no script")
            web.get(f"{PREFECT}{script[1]}").raise_for_status()

    def targets_down(self) -> list[str]:
        """Return the targets of Prometheus that are not up, with their errors."""
        found = httpx.get(f"{PROMETHEUS}/api/v1/targets", timeout=30).json()["data"][
            "activeTargets"
        ]
        return [
            f"{target['scrapeUrl']}: {target['lastError'] or target['health']}"
            for target in found
            if target["health"] != "up"
        ]

    def target_count(self) -> int:
        """Return the number of Prometheus' targets."""
        return len(
            httpx.get(f"{PROMETHEUS}/api/v1/targets", timeout=30).json()["data"]["activeTargets"]
        )

    def alerts(self, over: str = "") -> set[str]:
        """Return the names of the alerts that fire, or that have fired over a time such as 1h."""
        firing = 'ALERTS{alertstate="firing"}'
        query = f"max_over_time({firing}[{over}])" if over else firing
        found = httpx.get(f"{PROMETHEUS}/api/v1/query", params={"query": query}, timeout=30).json()
        return {line["metric"]["alertname"] for line in found["data"]["result"]}
