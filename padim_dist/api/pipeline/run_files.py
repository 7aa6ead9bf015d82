"""``run.json`` and the arrays of a run: made before its first shard, concluded after its last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from padim_dist.api.pipeline.alarms import Alarms, find_cutoff
from padim_dist.api.settings import plans
from padim_dist.config import Config
from padim_dist.store.drifts import create_drift, create_means, remove_means
from padim_dist.store.manifests import Shard, Snapshot
from padim_dist.store.models import ModelInfo
from padim_dist.store.run import ShardCounts, create_heatmaps, heatmap_rows, list_runs
from padim_dist.store.workspace import Workspace


def make_head(
    config: Config,
    run_id: str,
    model: ModelInfo,
    snapshot: Snapshot,
    shards: list[Shard],
    settings: dict[str, Any],
    alarms: Alarms,
) -> dict[str, Any]:
    """What is asked: the content of ``run.json`` as long as the run is not finished."""
    now = datetime.now(UTC).isoformat()
    return {
        "run_id": run_id,
        "model_id": model.model_id,
        "snapshot": snapshot.snapshot,
        "settings": [settings],
        "asked": plans.asked_settings(config),
        "alarms": asdict(alarms),
        "shards": [shard.shard for shard in shards],
        "images": sum(shard.images for shard in shards),
        "started_at": now,
        "asked_at": now,
    }


def groups_of(shards: Iterable[Shard]) -> list[str]:
    """Groups of a run in the order of its drift maps."""
    return list(dict.fromkeys(shard.group for shard in shards if shard.group is not None))


def start(
    config: Config,
    head: dict[str, Any],
    model: ModelInfo,
    shards: list[Shard],
    workspace: Workspace,
) -> None:
    """Write what is asked, and make room for heatmaps and for the drift."""
    folder, run = workspace.folder, workspace.run(head["run_id"])
    folder.put_json(f"{run}/run.json", head)
    shape = model.embedding.shape
    if config.score.heatmaps == "grid":
        rows = heatmap_rows([shard.images for shard in shards])
        create_heatmaps(folder, run, len(shards), rows, shape.grids[0])
    create_means(folder, run, len(shards), shape)
    create_drift(folder, run, groups_of(shards), shape.grids[0])


def conclude(
    head: Mapping[str, Any],
    counts: Mapping[int, ShardCounts],
    drift: Mapping[str, Mapping[str, float]],
    workspace: Workspace,
) -> None:
    """Write what the run came to: from here on it is finished."""
    run = workspace.run(head["run_id"])
    path = f"{run}/run.json"
    statuses = sum((Counter(count.statuses) for count in counts.values()), Counter[str]())
    judged = [count.flagged for count in counts.values() if count.flagged is not None]
    flagged = sum(judged) if judged else None
    cutoff = None
    if head["alarms"]["rule"] == "fdr" and judged:
        cutoff, flagged = find_cutoff(workspace, head["run_id"], head["alarms"]["asked"])
    workspace.folder.put_json(
        path,
        {
            **workspace.folder.read_json(path),
            "finished_at": datetime.now(UTC).isoformat(),
            "statuses": dict(statuses),
            "flagged": flagged,
            "cutoff": cutoff,
            "drift": drift,
        },
    )
    remove_means(workspace.folder, run)


def ask_again(head: Mapping[str, Any], workspace: Workspace) -> None:
    """Make a finished run the one that these settings stand for, if it is not."""
    path = f"{workspace.run(head['run_id'])}/run.json"
    (wanted,) = head["settings"]
    own = [run for run in list_runs(workspace) if wanted in run["settings"]]
    if own and own[-1]["run_id"] == head["run_id"]:
        return
    before = workspace.folder.read_json(path)
    workspace.folder.put_json(
        path,
        {
            **before,
            # Other words for the same images, e.g. all splits where there is but one.
            "settings": [*(known for known in before["settings"] if known != wanted), wanted],
            "asked_at": head["asked_at"],
        },
    )
