"""What the run shows: the days of a team on the services of the compose file."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier
from time import monotonic
from zoneinfo import ZoneInfo

import httpx
import psutil
import s3fs
import yaml

from infra.dev.containers import docker as engine
from infra.dev.containers import images
from infra.dev.containers.docker import Docker
from infra.dev.containers.stack import PREFECT, S3, Stack, wait
from infra.dev.containers.terminal import logged, say
from infra.kubernetes.at_work import flow_runs
from padim_dist.storage import Folder
from padim_dist.synthetic.archive import make_archive

ZONE = "Asia/Tokyo"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Line:
    """A line of cameras that writes its images to the object storage."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        make_archive(folder, normal=24, good=16, defects=4)
        self.folder = folder
        self.normal = sorted(folder.glob("*/train/*/[0-9]*"))
        self.test = sorted(folder.glob("*/test/*/[0-9]*"))
        self.options = {
            "key": "padim",
            "secret": stack.setting("S3_SECRET"),
            "endpoint_url": S3,
            "client_kwargs": {"region_name": "us-east-1"},
        }
        self.s3 = s3fs.S3FileSystem(**self.options)

    def deliver(self, files: list[Path], to: str) -> int:
        """Upload files below a folder of the archive, each in the folder of its camera."""
        for path in files:
            camera = path.relative_to(self.folder).parts[0]
            name = f"{path.parent.name}-{path.name}"
            self.s3.put_file(str(path), f"archives/line-1/{to}/{camera}/{name}")
        return len(files)

    def race(self, names: int = 5, writers: int = 8) -> None:
        """Let several writers create the same object at once: leases need that one succeeds."""
        folder = Folder("s3://audits/race", {"s3": self.options})
        with ThreadPoolExecutor(writers) as pool:
            for name in map(str, range(names)):
                gate = Barrier(writers)

                def create(_: int, name: str = name, gate: Barrier = gate) -> bool:
                    gate.wait(30)
                    return folder.create(name, b"mine")

                if (won := sum(pool.map(create, range(writers)))) != 1:
                    sys.exit(f"containers: {won} of {writers} writers created the same object")
        say(f"of {writers} simultaneous writers one creates an object, {names} times")

    def closed(self) -> None:
        """Check that the storage refuses requests without a key."""
        for request in (("GET", "audits"), ("PUT", "audits/anonymous")):
            reply = httpx.request(request[0], f"{S3}/{request[1]}", timeout=30)
            if reply.status_code != httpx.codes.FORBIDDEN:
                sys.exit(f"containers: {' '.join(request)} without a key: {reply.status_code}")
        say("the object storage refuses requests without a key")

    def tables(self) -> int:
        """Return the number of shards with a score table."""
        self.s3.invalidate_cache()
        return len(self.s3.glob("audits/line-1/runs/*/scores/*.parquet"))


def nights() -> list[dict[str, str]]:
    """Return the flow runs that have begun, in order."""
    reply = httpx.post(
        f"{PREFECT}/api/flow_runs/filter", json={"sort": "START_TIME_ASC"}, timeout=30
    )
    return [run for run in reply.raise_for_status().json() if run["start_time"]]


def over(number: int) -> dict[str, str] | None:
    """Return a flow run if it has ended."""
    found = nights()
    ended = len(found) >= number and found[number - 1]["state_type"] in ENDED
    return found[number - 1] if ended else None


def start_night(stack: Stack) -> None:
    """Start a night by Prefect's command line in the container of the flows."""
    words = ("exec", "-T", "flows", "prefect", "deployment", "run", "nightly-audit/nightly")
    stack.docker.ask(*stack.command(*words)[3:])


def kill_night(stack: Stack) -> None:
    """Kill the process of the flow run; the container of the flows goes on."""
    container = stack.docker.ask(*stack.command("ps", "--quiet", "flows")[3:]).strip()
    server = int(stack.docker.ask("inspect", "--format", "{{.State.Pid}}", container))
    with suppress(psutil.NoSuchProcess):
        for run in flow_runs(server)[:1]:
            run.kill()
            return
    sys.exit("containers: the night was over before it could be killed")


def configure(stack: Stack, weights: str) -> None:
    """Make certificates and passwords, and change the configuration, as a team does."""
    for script in ("certificates", "secrets"):
        subprocess.run([stack.infra / "dev" / script], check=True, timeout=60)
    mode = (stack.infra / ".env").stat().st_mode & 0o777
    if mode != 0o600:
        sys.exit(f"containers: infra/.env has mode {mode:o}")
    path = stack.infra / "compose.config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["model"]["weights"] = weights
    tree["archive"]["shard_images"] = 4  # so that a night can be killed between two shards
    path.write_text(yaml.safe_dump(tree))


def show_demo(docker: Docker, tag: str) -> None:
    """Run the demo in a container with a read-only root and no network."""
    options = ("--rm", "--read-only", "--network=none", "--cap-drop=ALL", "--tmpfs=/tmp")
    work = "--tmpfs=/work:uid=10001,gid=10001"
    command = docker.command("run", *options, work, tag, "padim-dist", "demo")
    logged("padim-dist demo, read-only root, no network", command, docker.logs / "demo.log")


def show_scaling(stack: Stack, workers: int) -> None:
    """Scale by the setting in ``.env``, and see that a plain `up` keeps it."""
    stack.setting("PADIM_WORKERS", str(workers))
    for title in (f"{workers} workers", f"{workers} workers after another 'up'"):
        stack.up(title)
        wait(f"{workers} workers at the scheduler", lambda: stack.workers() == workers, 90)


def show_nights(stack: Stack, line: Line) -> None:
    """Run three nights: by schedule, killed, and the one that finishes it."""
    half = line.deliver(line.test[::2], "nights/2026-11-25")
    # A machine may be slow: the night is due some minutes after flows of this zone are served once.
    stack.setting("PADIM_DIST_TIMEZONE", ZONE)
    began = monotonic()
    stack.up(f"the flows in the zone {ZONE}")
    lead = 120 + 2 * (monotonic() - began)
    at = datetime.now(ZoneInfo(ZONE)) + timedelta(seconds=lead)  # rounded down to the minute
    stack.setting("PADIM_DIST_CRON", f"{at.minute} {at.hour} * * *")
    stack.up(f"day 1: {half} images; a night at {at:%H:%M} of {ZONE}")
    first = wait("the scheduled night", lambda: over(1), lead + 300)
    say(f"night 1, by schedule: {first['state_name']}")

    rest = line.deliver(line.test[1::2], "nights/2026-11-26")
    before = line.tables()
    start_night(stack)
    wait("the first shard of night 2", lambda: line.tables() > before, 240)
    kill_night(stack)
    second = wait("the state of the killed night", lambda: over(2), 180)
    done = line.tables() - before
    say(f"night 2, {rest} images, killed with {done} shards done: {second['state_name']}")
    start_night(stack)
    third = wait("the night after the kill", lambda: over(3), 420)
    say(f"night 3, which finishes it: {third['state_name']}")

    states = [run["state_name"] for run in (first, second, third)]
    query = "SELECT count(*) AS n, count(DISTINCT image_id) AS images FROM scores"
    counts = stack.padim("query", query)["rows"]
    listed = stack.padim("nights")["nights"]
    say(f"rows, images: {counts}; nights of the workspace: {[n['images'] for n in listed]}")
    good = {"Completed", "Odd"}
    expected = len(line.test)
    if (
        not {states[0], states[2]} <= good
        or states[1] != "Crashed"
        or list(map(list, counts)) != [[expected, expected]]
        or [night["images"] for night in listed] != [half, rest]
        or not nights()[0]["auto_scheduled"]
    ):
        sys.exit(f"containers: nights ended as {states}, with {counts} of {expected} rows")


def show_health(stack: Stack) -> None:
    """Check containers, pages, and what Prometheus sees."""
    wait("targets of Prometheus", lambda: not stack.targets_down(), 90)
    if wrong := stack.unhealthy():
        sys.exit("containers: " + "\n".join(wrong))
    stack.pages()
    services = {found["Service"] for found in stack.containers()}
    say(f"{len(services)} services healthy, {stack.target_count()} targets of Prometheus up")


def show_alerts(stack: Stack) -> None:
    """Check that no alert fires, and that none has fired but for the night that was killed."""
    fired, firing = stack.alerts(over="1h"), stack.alerts()
    if firing or fired - {"NightFailed"}:
        sys.exit(f"containers: alerts fire: {sorted(firing)}; have fired: {sorted(fired)}")
    say(f"no alert fires; have fired: {', '.join(fired) or 'none'}")


def main(folder: Path) -> None:
    """Run all days."""
    with engine.daemon(folder) as docker:
        images.checkout(docker)
        images.base_images(docker)
        stack = Stack(docker)
        tag = yaml.safe_load((stack.infra / "compose.yaml").read_text())["x-padim"]["image"]
        weights = images.build(docker, tag)
        engine.go_offline()
        say("from here on without a network")
        show_demo(docker, tag)
        configure(stack, weights)
        stack.setting("PADIM_DIST_CRON", "")
        try:
            stack.up("compose up, without Grafana")
            show_health(stack)
            line = Line(docker.system / "tmp/archive", stack)
            line.closed()
            line.race()
            count = line.deliver(line.normal, "normal")
            model = stack.padim("fit")["model_id"]
            stack.padim("promote", model, "--note", "the first one")
            say(f"day 0: {count} normal images; model {model} is promoted (weights: {weights})")
            show_scaling(stack, 4)
            show_nights(stack, line)
            show_scaling(stack, 2)
            show_health(stack)
            show_alerts(stack)
        finally:
            stack.keep_logs()
        stack.down()
    say(
        "shown: image built and demo run on a read-only root; services healthy; fit, promote; a "
        "night by its schedule, one killed and finished by the next; 2, 4, 2 workers; no alert; "
        "all removed. Not shown: Grafana, whose image cannot be made here"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
