"""Metrics: counted by real processes, and served with the right values."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from distributed import Client
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.cli.app import app
from padim_dist.core.status import STATUSES
from padim_dist.errors import ConfigError
from padim_dist.events import Progress
from padim_dist.telemetry.measures import _STAGES, observe
from padim_dist.telemetry.server import serve_metrics
from tests.conftest import make_mvtec, tiny_config
from tests.processes import free_port

DRIVER = """
import json, os, signal, subprocess, sys, urllib.request
from padim_dist.telemetry.server import serve_metrics

DEAD = '''
import os, signal
from padim_dist.events import Progress, TaskRetried
from padim_dist.telemetry.measures import observe
observe(Progress("of a dead run", 10, 3, 1, 2, 1))
observe(TaskRetried("of a dead run", "shard 1", "killed"))
os.kill(os.getpid(), signal.SIGKILL)
'''

if __name__ == "__main__":
    address, tree = sys.argv[1:]
    with serve_metrics(address):
        import padim_dist as padim
        from padim_dist.config import make_config
        from padim_dist.telemetry.measures import observe

        subprocess.run([sys.executable, "-c", DEAD], timeout=60)
        config = make_config(json.loads(tree))
        padim.fit(config, observe)
        padim.score(config, observe)
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as reply:
            sys.stdout.write(reply.read().decode())
"""


NIGHT = """
import os, signal, subprocess, sys, time, urllib.request
from padim_dist.telemetry.server import serve_metrics

RUN = '''
import math, os, signal, sys
from padim_dist.events import Progress
from padim_dist.telemetry.measures import at_work, observe
from padim_dist.telemetry.outcomes import NightOutcome, night_at_work, show_outcome, show_state

try:
    with night_at_work("failing"):
        raise RuntimeError
except RuntimeError:
    pass
with night_at_work("line"), at_work():
    observe(Progress("score", 10, 3, 0, 2, 1))
    show_outcome("line", NightOutcome(1e9, {"scored": 8, "missing": 2}, 3, 0.8, math.nan, 0))
    show_state("line", "done")
with night_at_work("line"):
    print("at work", flush=True)
    sys.stdin.read()
'''

def scrape(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as reply:
        return reply.read().decode()

if __name__ == "__main__":
    with serve_metrics(sys.argv[1]):
        from padim_dist.telemetry import measures, outcomes

        outcomes.expect_flow("fit")
        first = scrape(sys.argv[1])
        run = subprocess.Popen([sys.executable, "-c", RUN], stdin=-1, stdout=-1)
        assert run.stdout.readline() == b"at work\\n"
        alive = scrape(sys.argv[1])
        run.kill()
        run.wait()
        print("NEXT".join([first, alive, scrape(sys.argv[1])]))
"""


MANY = """
import os, subprocess, sys, urllib.request
from padim_dist.telemetry.server import serve_metrics

RUN = '''
import sys
from padim_dist.events import TaskFinished
from padim_dist.telemetry.measures import count_read, observe
from padim_dist.telemetry.outcomes import show_state

number = int(sys.argv[1])
count_read(10**number)
observe(TaskFinished("score", "shard 1", 1, 0, 3.0 + number))
show_state("line", "odd" if number % 2 else "done")
'''

if __name__ == "__main__":
    with serve_metrics(sys.argv[1]):
        for number in range(5):
            subprocess.run([sys.executable, "-c", RUN, str(number)], check=True, timeout=60)
            with urllib.request.urlopen(f"http://{sys.argv[1]}/metrics", timeout=30) as reply:
                text = reply.read().decode()
            files = os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])
            print(len(files), text, sep="\\n", end="NEXT")
"""


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return values by name and label values."""
    return {
        (sample.name.removeprefix("padim_dist_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.slow
def test_a_run_of_this_machine_is_counted(tmp_path):
    """By the driver and its workers together; counts of a killed process stay."""
    archive = make_mvtec(tmp_path / "archive", groups=("b",))
    (archive / "b/test/good/99.png").write_bytes(b"no image")
    cluster = {"workers": 2, "memory": "4GiB"}
    config = tiny_config(tmp_path, archive, None, cluster=cluster)
    tree = json.dumps(config.model_dump(mode="json"))
    command = [sys.executable, "-c", DRIVER, f"127.0.0.1:{free_port()}", tree]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    found = samples(done.stdout)

    run = padim.open_scores(config.workspace)
    statuses = dict(run.aggregate("status, count(*)").fetchall())
    counted = {key[2]: n for key, n in found.items() if key[:2] == ("images_total", "score")}
    assert {status: n for status, n in counted.items() if n} == statuses
    fitted = sum(n for key, n in found.items() if key[:2] == ("images_total", "fit"))
    listed = [path for path in (archive / "b").rglob("*.*g") if "ground_truth" not in path.parts]
    train = [path for path in listed if "train" in path.parts]
    assert fitted == len(train)
    scored = sum(statuses.values())
    again = train if scored > len(listed) - len(train) else []
    assert found["bytes_read_total",] == sum(path.stat().st_size for path in [*listed, *again])
    # The first label is the process.
    shown = {(k[0], *k[2:]): n for k, n in found.items() if k[0] in ("run_images", "tasks")}
    assert shown["run_images", "score", "total"] == scored
    assert shown["run_images", "score", "done"] == scored
    assert shown["run_images", "score", "failed"] == scored - statuses["scored"]
    assert shown["tasks", "score", "waiting"] == shown["tasks", "score", "running"] == 0
    shards = run.aggregate("count(distinct shard)").fetchall()[0][0]
    assert found["tasks_finished_total", "score"] == shards
    assert found["task_seconds_count", "score"] == shards
    for step in ("read", "decode", "embed", "measure", "write"):
        assert found["stage_seconds_total", step] > 0
    assert found["tasks_retried_total", "of a dead run"] == 1
    stages = {key[1] for key, n in found.items() if key[0] == "tasks_finished_total" and n}
    assert stages <= set(_STAGES), "their counters do not begin at zero"
    assert not any(key[0] == "run_images" and "of a dead run" in key for key in found)


def test_dask_workers_serve_what_they_count(tmp_path, scheduler):
    archive = make_mvtec(tmp_path / "archive", groups=("b",))
    config = tiny_config(tmp_path, archive, scheduler)
    with Client(scheduler, set_as_default=False) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        urls = [f"http://{w['host']}:{w['services']['dashboard']}/metrics" for w in workers]

    def total(name: str) -> float:
        texts = [urllib.request.urlopen(url, timeout=30).read().decode() for url in urls]
        return sum(n for text in texts for key, n in samples(text).items() if key[0] == name)

    before = total("images_total")
    padim.fit(config)
    assert total("images_total") - before == 10
    assert total("dask_worker_threads") == 2


def test_metrics_of_nights_outlive_their_processes():
    """Counters begin at zero; a night that is killed stays unfinished, and nobody is at work."""
    command = [sys.executable, "-c", NIGHT, f"127.0.0.1:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, alive, dead = map(samples, done.stdout.split("NEXT"))
    for status in STATUSES:
        assert first["images_total", "score", status] == 0
    for name in ("finished", "retried", "failed"):
        assert first[f"tasks_{name}_total", "score"] == 0
    assert first["flows_failed_total", "fit"] == first["request_retries_total",] == 0
    assert not any(key[0].startswith("night_") for key in first)

    (pid,) = {key[1] for key in alive if key[0] == "tasks"}
    assert alive["last_event_timestamp_seconds", pid] == 0, "no stage is at work"
    assert alive["tasks", pid, "score", "waiting"] == 0
    assert alive["run_images", pid, "score", "done"] == 3
    assert (alive["night_at_work", "line"], alive["night_at_work", "failing"]) == (1, 0)
    assert not any(pid in key or key[0] == "night_at_work" for key in dead)
    for found in (alive, dead):
        states = {key[1:]: n for key, n in found.items() if key[0] == "night_state" and n}
        assert states == {("failing", "failed"): 1, ("line", "unfinished"): 1}
        assert found["night_finished_timestamp_seconds", "line"] == 1e9
        assert found["night_images", "line", "missing"] == 2
        assert found["night_images", "line", "timeout"] == 0
        assert math.isnan(found["night_drift_deviations", "line"])


def test_processes_that_come_and_go_leave_their_counts_and_no_files():
    command = [sys.executable, "-c", MANY, f"127.0.0.1:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    pages = [page.partition("\n") for page in done.stdout.split("NEXT")[:-1]]
    assert len(pages) == 5
    assert len({files for files, _, _ in pages}) == 1, "the number of files grows"
    for number, (_, _, text) in enumerate(pages):
        found = samples(text)
        assert found["bytes_read_total",] == int("1" * (number + 1))
        assert found["task_seconds_count", "score"] == number + 1
        assert found["task_seconds_sum", "score"] == sum(3.0 + i for i in range(number + 1))
        assert found["task_seconds_bucket", "5.0", "score"] == min(number + 1, 3)
        assert found["tasks_finished_total", "score"] == number + 1
        states = {key[2]: n for key, n in found.items() if key[0] == "night_state"}
        assert {state for state, n in states.items() if n} == {"odd" if number % 2 else "done"}


def test_only_news_is_an_event():
    """A driver says every second that it is alive; that is no progress."""
    name = "padim_dist_last_event_timestamp_seconds"
    times = []
    for done in (1, 1, 2):
        observe(Progress("score", 9, done))
        times.append(REGISTRY.get_sample_value(name))
    first, repeated, news = times
    assert 0 < first == repeated < news


@pytest.mark.parametrize("address", ["9108", "127.0.0.1:", "a:b", "127.0.0.1:70000"])
def test_wrong_addresses(address):
    with (
        pytest.raises(ConfigError, match=r"127.0.0.1:9108|choose another port"),
        serve_metrics(address),
    ):
        pass


def test_an_address_in_use_is_named(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("workspace: w\narchive: {url: a}\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = CliRunner().invoke(app, ["score", "-c", str(config), "--metrics", address])
    assert done.exit_code == 2
    assert f"metrics cannot be served at {address}" in done.output
    assert not list(Path(tmp_path).glob("w"))
