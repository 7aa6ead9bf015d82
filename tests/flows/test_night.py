"""Nights under a real Prefect server: states, messages, artifacts, events."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

import padim_dist as padim
from infra.kubernetes.at_work import flow_runs
from padim_dist.config import Config, load_config
from tests.conftest import draw
from tests.flows.client import SERVE
from tests.hooks import web_hook
from tests.processes import free_port, wait_until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def path(tmp_path_factory, scheduler) -> str:
    """A configuration and its archive, without a model."""
    root = tmp_path_factory.mktemp("flows")
    tree = {
        "workspace": str(root / "audit"),
        "archive": {"url": str(root / "archive"), "train": "/good/", "shard_images": 4},
        "model": {"weights": "random", "resize": 72, "crop": 64, "channels": 40, "batch": 4},
        "score": {"splits": ["test"]},
        "cluster": {"kind": "address", "address": scheduler},
        "notify": {"urls_from": "PADIM_TEST_NOTIFY", "when": ["done", "failed"]},
        "publish": {"hive": str(root / "tables")},
    }
    for i in range(8):
        draw(root / "archive/a/good" / f"{i}.jpg", i)
    (root / "config.yaml").write_text(yaml.safe_dump(tree))
    return str(root / "config.yaml")


def arrive(config: Config, night: int, images: int = 4) -> None:
    for i in range(images):
        path = Path(config.archive.url) / "a/line" / f"{night}-{i}.png"
        draw(path, 100 * night + i, spoiled=i == 0)


@pytest.fixture
def told(prefect, monkeypatch) -> Iterator[list[dict[str, Any]]]:
    """What flow runs post to the service of `notify`."""
    with web_hook() as (port, posted):
        url = f"json://127.0.0.1:{port}"
        monkeypatch.setitem(prefect.environment, "PADIM_TEST_NOTIFY", url)
        yield posted


def test_nights_from_the_first_to_a_killed_one(prefect, path, told, monkeypatch):
    """In this order: no model, a night, an empty night, a killed one."""
    config = load_config(path)
    monkeypatch.setitem(prefect.environment, "PADIM_DIST_RETRIES", "0.1")

    # No model is promoted: it fails, says what to do, and shows no traceback.
    failed = prefect.run("nightly_audit", config=path)
    assert failed["state_type"] == "FAILED"
    assert "no model is promoted" in failed["state"]["message"]
    assert "Traceback" not in failed["stderr"]
    assert [message["title"] for message in told] == ["Audit of archive failed"]
    assert "no model is promoted" in told[0]["message"]

    fitted = prefect.run("fit", "jobs", config=path)
    assert fitted["state_type"] == "COMPLETED"
    (model,) = padim.models(config).models
    assert model.model_id in fitted["state"]["message"]
    padim.promote(config, model=model.model_id, note="")

    # A night, which cannot be published.
    tables = Path(str(config.publish.hive))
    tables.write_text("a file, not a folder")
    arrive(config, 1)
    night = prefect.run("nightly_audit", config=path, refit=True)
    assert (night["state_type"], night["state_name"]) == ("COMPLETED", "Completed")
    assert "Night 1: 4 scored" in night["state"]["message"]
    assert "Not published, the next night tries again" in night["state"]["message"]
    assert len(prefect.tasks(night["id"])) <= 20
    shown = prefect.artifacts(night["id"])
    assert shown["score-progress"]["data"] == 100
    assert "4 of 4" in shown["score-progress"]["description"]
    assert shown["night-summary"]["data"].startswith("# Night 1, ")
    top = json.loads(shown["top-anomalies"]["data"])
    assert top[0]["image"].endswith("1-0.png")
    picture = base64.b64decode(shown["contact-sheet"]["data"].partition("base64,")[2])
    assert picture[:3] == b"\xff\xd8\xff", "the picture is a JPEG"

    # No new image: odd, with an event for automations. The night before is published now.
    tables.unlink()
    empty = prefect.run("nightly_audit", config=path)
    assert (empty["state_type"], empty["state_name"]) == ("COMPLETED", "Odd")
    assert "no image came" in empty["state"]["message"]
    assert "ublished" not in empty["state"]["message"]
    assert len(list(tables.glob("images/day=*/*.parquet"))) == 1
    first, unpublished, odd = told[1:]
    assert unpublished["title"] == "Publishing of archive failed"
    assert first["title"].startswith("Night 1, ")
    assert base64.b64decode(first["attachments"][0]["base64"]) == picture
    assert odd["title"].endswith(", archive: odd")

    def events() -> list[dict[str, Any]]:
        names = {"event": {"prefix": ["padim-dist."]}}
        return prefect.ask("events/filter", filter=names)["events"]

    wait_until(lambda: len(events()) >= 2)
    by_name = {event["event"]: event for event in events()}
    assert by_name["padim-dist.night.odd"]["payload"]["night"] == 2
    assert by_name["padim-dist.night.done"]["payload"]["statuses"] == {"scored": 4}

    # Killed in mid-run: the next night finishes it and scores newer images.
    arrive(config, 3, images=24)
    scores = Path(config.workspace) / "runs"
    before = set(scores.glob("*/scores/*.parquet"))
    process = prefect.start("nightly_audit", config=path)
    wait_until(lambda: set(scores.glob("*/scores/*.parquet")) - before)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not psutil.pid_exists(process.pid)
    arrive(config, 4, images=2)
    mended = prefect.run("nightly_audit", config=path)
    assert "Night 3: 24 scored. Night 4: 2 scored" in mended["state"]["message"]
    assert len(prefect.tasks(mended["id"])) <= 20


def test_a_backfill_scores_the_unscored_images_in_pieces(prefect, path):
    config = load_config(path)
    arrive(config, 5, images=12)
    padim.index(config)
    done = prefect.run("backfill", "jobs", config=path, prefix="a/line/5-", piece_images=4)
    assert done["state"]["message"] == "3 pieces: 12 scored"
    assert prefect.run("backfill", "jobs", config=path)["state"]["message"].startswith("No images")
    wrong = prefect.run("backfill", "jobs", config=path, since="2001-01-01", until="2001-01-02")
    assert "has no entry from 2001-01-01 to 2001-01-02" in wrong["state"]["message"]


def test_served_flows_are_triggered_by_the_command_line(prefect, path, tmp_path):
    """A missing configuration ends in a message."""
    wrong = {**prefect.environment, "PADIM_DIST_CONFIG": "nowhere.yaml"}
    refused = subprocess.run(SERVE, env=wrong, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: configuration nowhere.yaml cannot be read")
    config = load_config(path)
    padim.index(config)
    if not any(model.state == "promoted" for model in padim.models(config).models):
        padim.promote(config, model=padim.fit(config).model_id, note="")
    padim.audit(config)  # also the images that earlier tests left
    arrive(config, 6, images=3)
    with prefect.serving(path, tmp_path):
        prefect.command("deployment", "run", "nightly-audit/nightly", "--watch")
    run = prefect.newest()
    assert run["state_type"] == "COMPLETED"
    assert run["deployment_id"]
    assert run["state"]["message"].endswith(": 3 scored")


def test_what_is_known_of_the_last_night_when_flows_are_served_again(prefect, path, tmp_path):
    """A night that failed before it was opened stays failed, until one is finished by command.

    While the workspace cannot be read nothing is known: no night was finished a moment ago.
    """
    tree = yaml.safe_load(Path(path).read_text())
    tree = {**tree, "workspace": str(tmp_path / "audit"), "publish": {}, "notify": {}}
    tree["archive"]["url"] = str(tmp_path / "archive")
    (tmp_path / "line.yaml").write_text(yaml.safe_dump(tree))
    own, exported = str(tmp_path / "line.yaml"), f"127.0.0.1:{free_port()}"
    config = load_config(own)
    for i in range(8):
        draw(tmp_path / "archive/a/good" / f"{i}.jpg", i)
    padim.promote(config, model=padim.fit(config).model_id, note="")
    arrive(config, 1)

    def failures() -> list[Any]:
        runs = [run for run in prefect.ask("flow_runs/filter") if run["name"].startswith("line ")]
        return [run for run in runs if run["state_type"] == "FAILED"]

    def served(night: bool = False) -> dict[str, float]:
        """Serve the flows, once with a night; return the metrics of nights."""
        settings = {"PADIM_DIST_METRICS": exported, "PADIM_DIST_RETRIES": ""}
        with prefect.serving(own, tmp_path, **settings) as serving:
            if night:
                prefect.command("deployment", "run", "nightly-audit/nightly")
                wait_until(failures, 240, "for the night to fail")
                # Who stops serving while the process is there cancels the flow run.
                wait_until(lambda: not flow_runs(serving), 60, "for its process to end")
            lines = httpx.get(f"http://{exported}/metrics", timeout=30).text.splitlines()
        found = [line.rpartition(" ") for line in lines if line.startswith("padim_dist_night_")]
        return {name.removeprefix("padim_dist_night_"): float(n) for name, _, n in found}

    failed, finished = (
        'state{audit="line",state="failed"}',
        'finished_timestamp_seconds{audit="line"}',
    )
    hidden = (tmp_path / "archive").rename(tmp_path / "hidden")
    assert served(night=True)[failed] == 1
    hidden.rename(tmp_path / "archive")
    assert served()[failed] == 1

    padim.audit(config)
    after = served()
    assert (after[failed], after['state{audit="line",state="done"}']) == (0, 1)

    (night,) = (tmp_path / "audit/nights").glob("*/00001.json")
    night.write_text("{")
    unknown = served()
    assert finished in after
    assert finished not in unknown


def test_the_deployments_of_prefect_yaml(prefect, path):
    root = Path(__file__).parents[2]
    prefect.environment.update(PADIM_DIST_CONFIG=path, PADIM_DIST_HOME=str(root))
    prefect.command("work-pool", "create", "padim-dist", "--type", "process")
    prefect.command("--no-prompt", "deploy", "--all", cwd=root)
    found = {deployment["name"]: deployment for deployment in prefect.ask("deployments/filter")}
    # The served deployments have the same names.
    prefect.command("--no-prompt", "deployment", "delete", "--all")
    assert found.keys() >= {"nightly", "fit", "score", "backfill"}
    nightly = found["nightly"]
    assert nightly["parameters"] == {"config": path}
    assert nightly["tags"] == ["padim-dist"]
    assert nightly["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert found["fit"]["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    (pull,) = nightly["pull_steps"]
    assert pull["prefect.deployments.steps.set_working_directory"] == {"directory": str(root)}
    form = nightly["parameter_openapi_schema"]["properties"]
    assert form["refit"]["type"] == "boolean"
    assert form["config"]["description"].startswith("Path of the YAML file")
