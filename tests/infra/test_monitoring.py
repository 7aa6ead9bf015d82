"""Prometheus' configuration, the alerts and the dashboard: valid, and consistent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import distributed
import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from flows.due import Due
from padim_dist.telemetry import measures, outcomes

INFRA = Path(__file__).parents[2] / "infra"
FOLDER = INFRA / "monitoring"


def promtool(*words: str | Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("SKIPPED PART: promtool is not installed (Debian: prometheus)")
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def rules() -> list[dict]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def panels() -> list[dict]:
    return json.loads((FOLDER / "dashboard.json").read_text())["panels"]


def test_the_configuration_is_valid(tmp_path):
    text = (FOLDER / "prometheus.yml").read_text()
    assert "/etc/prometheus/alerts.yml" in text
    here = text.replace("/etc/prometheus", str(FOLDER))
    (tmp_path / "prometheus.yml").write_text(here)
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_every_alert_is_tested_to_fire_and_not_to_fire(rules):
    promtool("test", "rules", FOLDER / "alerts.test.yml")
    spoken = {rule["alert"]: set() for rule in rules}
    for case in yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]:
        (asked,) = case["alert_rule_test"]
        spoken[asked["alertname"]].add(bool(asked["exp_alerts"]))
    assert all(tried == {True, False} for tried in spoken.values()), spoken


def test_expressions_are_valid(tmp_path, panels):
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    records = [{"record": f"panel:{i}", "expr": e} for i, e in enumerate(expressions)]
    rules = {"groups": [{"name": "panels", "rules": records}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_only_exported_metrics_are_queried(rules, panels):
    expressions = [rule["expr"] for rule in rules]
    expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    asked = set(re.findall(r"\b(?:padim_dist|dask)_\w+", " ".join(expressions)))
    values = [*vars(measures).values(), *vars(outcomes).values(), *outcomes._figures.values()]
    own = {m for m in values if isinstance(m, MetricWrapperBase)}
    ours = {name for metric in own for name in REGISTRY._collector_to_names[metric]}
    ours |= {family.name for family in Due("line", "0 2 * * *", "UTC").collect()}
    assert {name for name in asked if name.startswith("padim_dist_")} <= ours
    http = Path(distributed.__file__).parent / "http"
    source = "".join(path.read_text() for path in http.glob("*/prometheus/core.py"))
    for name in asked - ours:
        _, subsystem, rest = name.split("_", 2)
        assert f'"{rest}"' in source, name
        assert (http / subsystem).is_dir()


def test_panels_are_complete_and_do_not_overlap(panels):
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "prometheus"
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_panels_of_now_show_nothing_that_is_over(panels):
    """The last value of a range is that of a state or a process that is no more."""
    of_now = {"Last night", "Progress", "Last progress"}
    found = {panel["title"]: panel for panel in panels if panel["title"] in of_now}
    assert found.keys() == of_now
    assert all(target["instant"] for panel in found.values() for target in panel["targets"])
    assert found["Last night"]["options"]["textMode"] == "name"  # its value is 1


def test_alerts_name_a_section_of_the_manual(rules):
    headings = re.findall(
        r"^## (.*)$", (INFRA.parent / "docs/operations.md").read_text(), re.MULTILINE
    )
    for rule in rules:
        (named,) = re.findall(
            r"docs/operations.md,\s+([^)]*)\)", rule["annotations"]["description"]
        )
        assert named in headings


def test_ports_and_jobs_match_the_services():
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    ports = {"flows": services["flows"]["environment"]["PADIM_DIST_METRICS"].split(":")[1]}
    for job, service in (("scheduler", "scheduler"), ("workers", "worker")):
        (found,) = [w for w in services[service]["command"] if "dashboard-address" in w]
        ports[job] = found.rpartition(":")[2]
    assert {job["job_name"] for job in scraped} == set(ports)
    for job in scraped:
        told = json.dumps(job)
        assert ports[job["job_name"]] in told


def test_workers_count_from_zero():
    """They import the metrics at their start, in both."""
    worker = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]["worker"]
    settings = yaml.safe_load((INFRA / "kubernetes/base/distributed.yaml").read_text())
    (preloaded,) = settings["distributed"]["worker"]["preload"]
    assert worker["environment"]["DASK_DISTRIBUTED__WORKER__PRELOAD"] == preloaded
    assert preloaded == measures.__name__
