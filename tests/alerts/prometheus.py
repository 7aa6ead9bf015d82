"""A real Prometheus with the rules of infra/monitoring, at a faster pace, and its client."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import yaml

from tests.flows.services import ROOT
from tests.processes import free_port, running, wait_until

MONITORING = ROOT / "infra/monitoring"
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_FASTER_WINDOWS, _FASTER_FOR, _LONGEST_FOR = 10, 30, 20


def _seconds(text: str) -> int:
    return int(text[:-1]) * _SECONDS[text[-1]]


def faster(text: str) -> str:
    """Return rules with shorter windows and delays, and nothing else changed.

    Examples
    --------
    >>> print(faster("expr: rate(a[10m]) > 3\\nfor: 2m\\nother: 12m"))
    expr: rate(a[60s]) > 3
    for: 4s
    other: 12m
    """
    text = re.sub(r"\[(\d+[smh])\]", lambda m: f"[{_seconds(m[1]) // _FASTER_WINDOWS}s]", text)
    return re.sub(
        r"(?m)^( *for: )(\d+[smh])$",
        lambda m: f"{m[1]}{min(_seconds(m[2]) // _FASTER_FOR, _LONGEST_FOR)}s",
        text,
    )


class Prometheus:
    """The HTTP interface of a server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _ask(self, path: str, **query: object) -> dict:
        reply = httpx.get(f"{self._url}/api/v1/{path}", params=query, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    def firing(self) -> set[str]:
        """Return the alerts that fire now."""
        found = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def value(self, expression: str) -> float:
        """Return the sum of the values of an expression now; 0 if it has none."""
        found = self._ask("query", query=expression)["result"]
        return sum(float(sample["value"][1]) for sample in found)

    def numbers(self, expression: str, since: float) -> list[float]:
        """Return all values of an expression from a time until now that are numbers."""
        query = {"query": expression, "start": since, "end": time.time(), "step": 1}
        found = self._ask("query_range", **query)["result"]
        values = [float(value) for series in found for _, value in series["values"]]
        return [value for value in values if not math.isnan(value)]

    def fired(self, since: float) -> set[str]:
        """Return the alerts that fired at any time from a time until now."""
        query = {
            "query": 'ALERTS{alertstate="firing"}', "start": since, "end": time.time(), "step": 1,
        }  # fmt: skip
        found = self._ask("query_range", **query)["result"]
        return {series["metric"]["alertname"] for series in found}

    def await_value(self, expression: str, seconds: float = 300) -> None:
        """Wait until an expression has a value above zero."""
        wait_until(lambda: self.value(expression) > 0, seconds, f"for {expression}")

    def await_alert(self, name: str, seconds: float = 300) -> None:
        """Wait until an alert fires."""
        wait_until(lambda: name in self.firing(), seconds, f"for {name} to fire")

    def await_end(self, name: str, seconds: float = 300) -> None:
        """Wait until an alert does not fire any more."""
        wait_until(lambda: name not in self.firing(), seconds, f"for {name} to end")


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Run Prometheus; yield its client.

    Parameters
    ----------
    folder : Path
        Folder for its files.
    targets : mapping of str to sequence of str
        Addresses by job.
    """
    if shutil.which("prometheus") is None:
        pytest.exit("Prometheus is not installed (Debian: apt-get install prometheus)", 2)
    (folder / "alerts.yml").write_text(faster((MONITORING / "alerts.yml").read_text()))
    tree = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    tree["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    tree["rule_files"] = [str(folder / "alerts.yml")]
    for job in tree["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [*targets[job["job_name"]]]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(tree))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/-/ready", timeout=5).status_code == 200
        return False

    with running(command, {}, folder / "prometheus.log") as process:
        wait_until(is_ready, 60, "for Prometheus")
        yield Prometheus(url)
