"""Each alert fires for its real cause and ends; none fires over quiet nights.

A real Prometheus with the rules of infra/monitoring scrapes the real flows and workers:
`make test-alerts`. The tests run in the order in which they are written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.store.nights import read_nights
from tests.alerts.line import Line, line
from tests.alerts.prometheus import MONITORING
from tests.processes import wait_until

pytestmark = [
    pytest.mark.timeout(900),
    # HTTP clients leave connections open when their server stops.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
DONE = 'padim_dist_night_state{audit="line",state="done"}'
RUNS = 'sum(padim_dist_tasks{stage="score",state="running"})'
WAITS = 'sum(padim_dist_tasks{stage="score",state="waiting"})'


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Line]:
    with line(tmp_path_factory.mktemp("line")) as found:
        yield found


@pytest.fixture(autouse=True)
def _well_storage(here) -> Iterator[None]:
    """Mend the storage after each test."""
    yield
    here.storage.share = here.storage.latency = 0.0
    here.storage.refuse(None)


def test_quiet_nights_are_quiet(here):
    """And every expression of the dashboard has data in them."""
    began = time.time()
    for _ in range(3):
        here.arrive(12)
        night = here.night()
        assert night["state_name"] == "Completed", night["state"]
    here.prometheus.await_value(f"{DONE} == 1")
    assert here.prometheus.fired(began) == set()
    assert here.prometheus.value('padim_dist_night_images{audit="line",status="scored"}') == 12
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    for panel in panels:
        for target in panel["targets"]:
            found = here.prometheus.numbers(target["expr"], began)
            assert found, f"{panel['title']}: {target['expr']}"


def test_an_odd_night(here):
    here.arrive(12, light=1.5)
    assert here.night()["state_name"] == "Odd"
    here.prometheus.await_alert("NightOdd")
    here.arrive(12)
    assert here.night()["state_name"] == "Completed"
    here.prometheus.await_end("NightOdd")


def test_unusable_images(here):
    here.arrive(10)
    here.arrive(30, broken=True)
    here.night()
    here.prometheus.await_alert("UnusableImages")
    here.prometheus.await_end("UnusableImages")


def test_a_store_that_fails_many_requests(here):
    here.arrive(300)
    here.storage.latency = 0.3
    night = here.begin()
    here.prometheus.await_value(f"{RUNS} + {WAITS}")
    # The client retries four times itself; what it gives up is a retry of ours.
    here.storage.kinds, here.storage.share = ("busy",), 0.8
    here.prometheus.await_alert("StorageBusy")
    here.storage.share = here.storage.latency = 0.0
    assert here.end(night)["state_type"] == "COMPLETED"
    here.prometheus.await_end("StorageBusy")


def test_a_night_whose_archive_is_gone(here):
    here.storage.refuse(404, "NoSuchBucket")
    assert here.night()["state_type"] == "FAILED"
    here.prometheus.await_alert("NightFailed")
    here.storage.refuse(None)
    here.arrive(12)
    assert here.night()["state_type"] == "COMPLETED"
    here.prometheus.await_end("NightFailed")


def test_a_night_that_is_killed(here):
    here.arrive(12)
    here.storage.latency = 1.0
    night = here.begin()
    here.prometheus.await_value(RUNS)
    here.flow().kill()
    assert here.end(night)["state_type"] == "CRASHED"
    here.storage.latency = 0.0
    here.prometheus.await_alert("NightFailed")
    assert here.night()["state_type"] == "COMPLETED"
    here.prometheus.await_end("NightFailed")


def test_a_failed_fit(here):
    """No task of it failed: the configuration is wrong."""
    wrong = here.begin("fit/fit", overrides=["model.backbone=resnet1"])
    assert here.end(wrong)["state_type"] == "FAILED"
    here.prometheus.await_alert("FlowFailed")  # its end: the last test


def test_tables_that_cannot_be_published(here):
    """The night is finished nevertheless."""
    tables = Path(here.config.publish.hive)
    if tables.exists():
        tables.rename(tables.with_name("aside"))
    tables.write_text("a file, not a folder")
    here.arrive(12)
    assert here.night()["state_type"] == "COMPLETED"
    here.prometheus.await_alert("NightChoreFailed")  # its end: the last test
    tables.unlink()
    if (aside := tables.with_name("aside")).exists():
        aside.rename(tables)


def test_a_run_that_makes_no_progress(here):
    """A driver that hangs, and then workers that hang."""
    here.arrive(60)
    here.storage.latency = 1.0
    night = here.begin()
    here.prometheus.await_value(RUNS)
    driver = here.flow()
    for stopped in ([driver], here.workers()):
        assert stopped
        for process in stopped:
            process.suspend()
        here.prometheus.await_alert("RunStalled")
        for process in stopped:
            process.resume()
        here.prometheus.await_end("RunStalled")
    here.storage.latency = 0.0
    assert here.end(night)["state_type"] == "COMPLETED"


def test_a_run_without_workers(here):
    """It waits for them, and goes on."""
    here.arrive(30)
    here.storage.latency = 1.0
    night = here.begin()
    here.prometheus.await_value(RUNS)
    here.kill_workers()
    here.prometheus.await_alert("NoWorkers")
    assert "RunStalled" not in here.prometheus.firing()
    here.storage.latency = 0.0
    here.start_workers()
    here.prometheus.await_end("NoWorkers")
    assert here.end(night)["state_type"] == "COMPLETED"


def test_workers_that_die_again_and_again(here):
    here.arrive(120)
    here.storage.latency = 0.5
    night = here.begin()
    retried = 'sum(padim_dist_tasks_retried_total{stage="score"})'
    finished = 'sum(padim_dist_tasks_finished_total{stage="score"})'
    here.prometheus.await_value(RUNS)
    while "TasksRetried" not in here.prometheus.firing():
        before, done = here.prometheus.value(retried), here.prometheus.value(finished)
        for worker in here.workers():
            worker.kill()
        wait_until(lambda before=before: here.prometheus.value(retried) > before, 60)
        wait_until(lambda done=done: here.prometheus.value(finished) > done, 60)
    here.storage.latency = 0.0
    assert here.end(night)["state_type"] == "COMPLETED"
    here.prometheus.await_end("TasksRetried")


def test_flows_that_are_not_served(here):
    """The process that serves them next knows the last night."""
    here.kill_flows()
    here.prometheus.await_alert("FlowsDown")
    here.serve(cron="* * * * *")
    here.ask(f"{here.deployment('nightly-audit/nightly')}/pause_deployment")
    finished = 'padim_dist_night_finished_timestamp_seconds{audit="line"}'
    here.prometheus.await_end("FlowsDown")
    shown = here.prometheus.value(finished)
    nights = read_nights(workspace_of(here.config), archive_settings(here.config))
    times = {datetime.fromisoformat(summary.finished_at).timestamp() for _, summary in nights}
    assert shown in times, "not the time at which the flows are served"


def test_a_schedule_that_starts_nothing(here):
    """The deployment is paused, so only its schedule says that nights are due."""
    here.prometheus.await_alert("NightLate")
    here.arrive(12)
    assert here.night()["state_type"] == "COMPLETED"
    here.prometheus.await_end("NightLate")


def test_all_alerts_are_covered_and_end(here):
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    assert here.prometheus.fired(here.began) == {rule["alert"] for rule in group["rules"]}
    here.prometheus.await_end("FlowFailed")
