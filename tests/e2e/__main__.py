"""Nights from end to end: ``python -m tests.e2e FOLDER``, or ``make e2e``.

Prefect on PostgreSQL, object storage, Dask behind TLS and the flows served, all real and
all on loopback. A model is fitted and promoted; the first night is started by its
schedule; in the second the process of the flow is killed; the third finishes it. The
output shows states, rows and artifacts; pictures of Prefect's pages are in the folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import httpx
import yaml
from rich.console import Console
from rich.table import Table

import padim_dist as padim
from infra.kubernetes.at_work import flow_runs
from padim_dist.synthetic.archive import make_archive
from tests.e2e.services import dask_cluster, object_storage, photograph, postgres
from tests.flows.services import ROOT, prefect_server
from tests.processes import free_port, running, wait_until

WEIGHTS = ROOT.parent / "shared/weights/resnet18_imagenet1k_v1_trunk.pth"
console = Console(width=110)


class Team:
    """An archive, a configuration and a promoted model, as after the first day of a team."""

    def __init__(self, folder: Path, storage: str, cluster: tuple[str, dict[str, str]]) -> None:
        self.options = {"endpoint_url": storage}
        self.s3 = fsspec.filesystem("s3", **self.options)
        self.local = folder / "archive"
        make_archive(self.local, normal=30, good=30, defects=8)
        self.s3.makedirs("archives", exist_ok=True)
        self.s3.makedirs("audits", exist_ok=True)
        address, tls = cluster
        tree = {
            "workspace": "s3://audits/line",
            "storage_options": {"s3": self.options},
            "archive": {
                "url": "s3://archives/line",
                "layout": "mvtec",
                "group": "^(?P<group>[^/]+)/",
                "shard_images": 4,
            },
            "model": {"weights": str(WEIGHTS) if WEIGHTS.exists() else "random"},
            "score": {"splits": ["test"]},
            "cluster": {"kind": "address", "address": address, "tls": tls},
        }
        self.path = str(folder / "config.yaml")
        Path(self.path).write_text(yaml.safe_dump(tree))
        self.config = padim.load_config(self.path)

    def arrive(self, paths: list[Path]) -> int:
        """Upload files of the local archive."""
        for path in paths:
            self.s3.put_file(str(path), f"archives/line/{path.relative_to(self.local).as_posix()}")
        return len(paths)

    def tables(self) -> int:
        """Return the number of shards with a score table."""
        self.s3.invalidate_cache()
        return len(self.s3.glob("audits/line/runs/*/scores/*.parquet"))

    def scores(self) -> Any:
        """Return the score tables of all runs as one relation."""
        runs = [f"s3://{run}" for run in self.s3.glob("audits/line/runs/*")]
        return padim.open_scores(runs, storage_options=self.config.storage_options)


class Prefect:
    """A client of the Prefect server."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.url = environment["PREFECT_API_URL"]

    def ask(self, path: str, **body: Any) -> Any:
        """Return an answer of its HTTP interface."""
        reply = httpx.post(f"{self.url}/{path}", json=body, timeout=30)
        reply.raise_for_status()
        return reply.json()

    def nights(self) -> list[dict[str, Any]]:
        """Return the flow runs that have begun, in order."""
        runs = self.ask("flow_runs/filter", sort="START_TIME_ASC")
        return [run for run in runs if run["start_time"]]

    def ended(self, nights: int) -> dict[str, Any] | None:
        """Return the last of so many nights if it has ended, else None."""
        found = self.nights()
        over = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        done = len(found) >= nights and found[nights - 1]["state_type"] in over
        return found[nights - 1] if done else None

    def trigger(self) -> None:
        """Start a night by the command line."""
        command = [sys.executable, "-m", "prefect", "deployment", "run", "nightly-audit/nightly"]
        subprocess.run(
            command, env=self.environment, check=True, stdout=subprocess.DEVNULL, timeout=120
        )


def say(text: str) -> None:
    """Print a line with the time."""
    console.print(f"[dim]{datetime.now(UTC):%H:%M:%S}[/]  {text}", highlight=False)


@contextmanager
def serving(prefect: Prefect, team: Team, cron: str, metrics: str, log: Path) -> Iterator[Any]:
    """Serve the flows."""
    environment = {
        **prefect.environment,
        "PADIM_DIST_CONFIG": team.path,
        "PADIM_DIST_CRON": cron,
        "PADIM_DIST_METRICS": metrics,
    }
    with running([sys.executable, "-m", "flows.serve"], environment, log) as process:
        yield process


def show(prefect: Prefect, team: Team) -> None:
    """Print states, rows and artifacts."""
    table = Table("flow run", "started by", "state", "message", title="Flow runs")
    for number, run in enumerate(prefect.nights(), 1):
        by = "schedule" if run["auto_scheduled"] else "command"
        table.add_row(str(number), by, run["state_name"], run["state"]["message"])
    console.print(table)
    table = Table("run", "images", "by status", title="Rows of the score tables")
    rows = team.scores()
    found = rows.aggregate("run_id, status, count(*) AS n").order("run_id, status").fetchall()
    for run in dict.fromkeys(row[0] for row in found):
        counts = {status: n for run_id, status, n in found if run_id == run}
        told = ", ".join(f"{n} {status}" for status, n in counts.items())
        table.add_row(run, str(sum(counts.values())), told)
    console.print(table)
    table = Table("key", "type", "what", title="Artifacts of the last night")
    for artifact in artifacts(prefect):
        table.add_row(artifact["key"], artifact["type"], artifact["description"] or "")
    console.print(table)


def artifacts(prefect: Prefect) -> list[dict[str, Any]]:
    """Return the artifacts of the last night."""
    asked = {"flow_run_id": {"any_": [prefect.nights()[-1]["id"]]}}
    found: list[dict[str, Any]] = prefect.ask("artifacts/filter", artifacts=asked, sort="KEY_ASC")
    return found


def scrape(url: str, *names: str) -> list[str]:
    """Return the lines of some metrics."""
    with urllib.request.urlopen(url, timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return [line for line in lines if line.startswith(names)]


def main(folder: Path) -> None:
    """Run the nights."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        say("starting PostgreSQL, object storage, Dask with TLS, Prefect")
        database = stack.enter_context(postgres())
        storage = stack.enter_context(object_storage())
        address, tls, metrics = stack.enter_context(dask_cluster(folder, workers=2))
        environment = stack.enter_context(prefect_server(folder, database, ui=True))
        prefect, team = Prefect(environment), Team(folder, storage, (address, tls))

        train = sorted(team.local.glob("*/train/*/*"))
        test = sorted(team.local.glob("*/test/*/*"))
        say(f"day 0: {team.arrive(train)} normal images come; fit, promote")
        team.arrive(list(team.local.glob("*/ground_truth/*/*")))
        padim.promote(team.config, model=padim.fit(team.config).model_id, note="the first one")

        half = test[::2]
        say(f"day 1: {team.arrive(half)} files come; flows are served, the night is scheduled")
        at = datetime.now(UTC) + timedelta(minutes=2)  # rounded down to the minute
        exported = f"127.0.0.1:{free_port()}"
        log = folder / "flows.log"
        server = stack.enter_context(
            serving(prefect, team, f"{at.minute} {at.hour} * * *", exported, log)
        )
        wait_until(lambda: prefect.ended(1), 300, "for the scheduled night")
        say("night 1 is over")

        say(f"day 2: {team.arrive(test[1::2])} files come; a night, killed in mid-run")
        before = team.tables()
        prefect.trigger()
        wait_until(lambda: team.tables() > before, 120, "for the first shard of night 2")
        (victim,) = flow_runs(server.pid)  # none if the night is over before it can be killed
        victim.kill()
        done = team.tables() - before
        wait_until(lambda: prefect.ended(2), 120, "for the killed night's state")
        say(f"killed, with {done} shards done; once more")
        prefect.trigger()
        wait_until(lambda: prefect.ended(3), 300, "for the night after the kill")

        show(prefect, team)
        console.print("Metrics")
        for url, names in (
            (f"http://{exported}/metrics", ("padim_dist_tasks_finished_total",)),
            *((url, ("padim_dist_images_total", "padim_dist_bytes_read_total")) for url in metrics),
        ):
            for line in scrape(url, *names):
                console.print(f"  {line}", highlight=False)
        ui = prefect.url.removesuffix("/api")
        runs = prefect.nights()
        pages = [("runs", f"{ui}/runs"), ("deployments", f"{ui}/deployments")]
        pages += [(f"night-{n}", f"{ui}/runs/flow-run/{r['id']}") for n, r in enumerate(runs, 1)]
        pages += [(a["key"], f"{ui}/artifacts/artifact/{a['id']}") for a in artifacts(prefect)]
        say(f"pictures of {len(pages)} pages")
        photograph(pages, folder)
        check(prefect, team, len(test))
    say(f"all is well; pictures and logs are in {folder}")


def check(prefect: Prefect, team: Team, images: int) -> None:
    """Check that every image has one row and the nights have the expected states."""
    names = [run["state_name"] for run in prefect.nights()]
    assert names[1] == "Crashed", names
    assert {names[0], names[2]} <= {"Completed", "Odd"}, names
    assert prefect.nights()[0]["auto_scheduled"]
    rows = team.scores()
    every, distinct = rows.aggregate("count(*), count(DISTINCT image_id)").fetchall()[0]
    assert every == distinct == images, (every, distinct, images)


if __name__ == "__main__":
    began = time.monotonic()
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "e2e").absolute())
    say(f"{time.monotonic() - began:.0f} s")
