"""Automations of a real Prefect server: each sends its notification to a real web hook."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import padim_dist as padim
from flows import automations
from padim_dist.config import load_config
from tests.conftest import draw
from tests.flows.client import Prefect
from tests.flows.services import prefect_server
from tests.hooks import web_hook
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(600)
BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block
message = {"subject": "{{subject}}", "body": "{{body}}"}
Block(name="team", url=sys.argv[1], json_data=message).save("team")
"""


@dataclass(frozen=True)
class Team:
    """A Prefect server with the automations, and what they have sent."""

    prefect: Prefect
    told: list[dict[str, Any]]
    path: str

    def subjects(self) -> list[str]:
        return [message["subject"] for message in self.told]


@pytest.fixture(scope="module")
def team(tmp_path_factory, scheduler) -> Iterator[Team]:
    root = tmp_path_factory.mktemp("automations")
    tree = {
        "workspace": str(root / "audit"),
        "archive": {"url": str(root / "archive"), "train": "/good/", "shard_images": 4},
        "model": {"weights": "random", "resize": 72, "crop": 64, "channels": 40, "batch": 4},
        "score": {"splits": ["test"]},
        "cluster": {"kind": "address", "address": scheduler},
    }
    for i in range(8):
        draw(root / "archive/a/good" / f"{i}.jpg", i)
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    # It looks more often for what is missing, and for flow runs that are late.
    faster = {
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        web_hook() as (port, told),
    ):
        for name, value in faster.items():
            patch.setenv(name, value)
        with prefect_server(root) as environment:
            found = Team(Prefect(environment), told, str(path))
            url = f"http://127.0.0.1:{port}/"
            command = [sys.executable, "-c", BLOCK, url]
            subprocess.run(command, env=environment, check=True, timeout=120)
            yield found


def apply(team: Team, file: Path, block: str = "custom-webhook/team") -> Any:
    command = [sys.executable, "-m", "flows.automations", block, str(file)]
    return subprocess.run(
        command, env=team.prefect.environment, capture_output=True, text=True, timeout=120
    )


def test_a_block_that_does_not_exist_is_named(team):
    refused = apply(team, automations.FILE, "slack-webhook/nobody")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: there is no block 'slack-webhook/nobody'")


def test_automations_are_created_once(team, tmp_path):
    """The second time they are updated; the shortest time is waited for one that is late."""
    for verb, file in (("created", automations.FILE), ("updated", tmp_path / "faster.yaml")):
        text = automations.FILE.read_text()
        assert "within: 600" in text
        (tmp_path / "faster.yaml").write_text(text.replace("within: 600", "within: 10"))
        done = apply(team, file)
        assert done.returncode == 0, done.stderr
        names = ("odd", "failed", "late")
        assert done.stdout.splitlines() == [f"{verb}: padim-dist {name}" for name in names]
        assert len(team.prefect.ask("automations/filter")) == 3


def test_each_sends_its_notification(team, tmp_path):
    """A night that fails, an odd one, and one that does not begin since nobody serves the flows."""
    trigger = ("deployment", "run", "nightly-audit/nightly")
    with team.prefect.serving(team.path, tmp_path):
        team.prefect.command(*trigger)
        wait_until(lambda: "nightly-audit: Failed" in team.subjects(), 60, "for 'failed'")
        config = load_config(team.path)
        padim.promote(config, model=padim.fit(config).model_id, note="")
        team.prefect.command(*trigger, "--watch")
        wait_until(lambda: any(s.endswith(": odd") for s in team.subjects()), 60, "for 'odd'")
    team.prefect.command(*trigger)
    wait_until(lambda: "nightly-audit: late" in team.subjects(), 90, "for 'late'")
    (odd,) = [message for message in team.told if message["subject"].endswith(": odd")]
    assert odd["subject"].startswith("Night 1, ")
    assert "0 images" in odd["body"]
    assert odd["body"].rstrip().endswith("summary.md")
    (failed,) = [message for message in team.told if message["subject"].endswith(": Failed")]
    assert "/runs/flow-run/" in failed["body"]
    assert len(team.told) == 3
