"""What is known of the last night when the flows are served: without a server."""

from __future__ import annotations

from pathlib import Path

import yaml
from prometheus_client import REGISTRY

from flows import outcomes
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import load_config
from tests.processes import wait_until


def test_a_workspace_that_cannot_be_read_is_read_again(tmp_path, monkeypatch):
    """Until then nothing is known; no night was finished a moment ago."""
    path = tmp_path / "mended.yaml"
    tree = {"workspace": str(tmp_path / "audit"), "archive": {"url": str(tmp_path / "archive")}}
    path.write_text(yaml.safe_dump(tree))
    config = load_config(path)
    nights = Path(config.workspace) / workspace_of(config).nights(archive_settings(config))
    nights.mkdir(parents=True)
    (nights / "00001.json").write_text("{")

    def finished() -> float | None:
        name = "padim_dist_night_finished_timestamp_seconds"
        return REGISTRY.get_sample_value(name, {"audit": "mended"})

    asked = []
    monkeypatch.setattr(outcomes, "_PAUSE", 0.01)
    monkeypatch.setattr(outcomes, "show_failed_flow", asked.append)
    outcomes.show_last_night(str(path))
    assert finished() is None
    (nights / "00001.json").unlink()
    wait_until(lambda: asked, 60, "for the workspace to be read again")
    assert asked == [str(path)]
    assert finished() is not None
