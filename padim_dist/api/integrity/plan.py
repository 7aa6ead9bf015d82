"""The plan of a verification: which shards of a run are scored again, and how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Any

from padim_dist.api.pipeline.score_plan import run_id_of, score_jobs
from padim_dist.config import Config
from padim_dist.core.alarms import Alarms
from padim_dist.engine.rescoring.rescore import RescoreJob
from padim_dist.errors import RequestError
from padim_dist.store.manifests import read_manifest
from padim_dist.store.models import ModelInfo, find_model
from padim_dist.store.runs.digests import RunFiles
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run


@dataclass(frozen=True)
class RescorePlan:
    """The model of a run, a job for each of its shards, and whether its id is that of its head."""

    model: ModelInfo
    jobs: list[RescoreJob]
    is_own_id: bool


def plan_rescore(config: Config, run: Run, head: RunHead, files: RunFiles | None) -> RescorePlan:
    """Return how the shards of a finished run are scored again, by the settings of the run.

    Where the archive is, and how it is read, is that of the configuration.

    Raises
    ------
    RequestError
        If it cannot be done: the model or the manifest is gone.
    """
    workspace = run.workspace
    model = find_model(workspace, head.model_id)
    if model is None:
        raise RequestError(f"model {head.model_id} is gone")
    manifest = read_manifest(workspace, head.snapshot)
    if manifest is None:
        raise RequestError(f"manifest {head.snapshot} is gone")
    if not head.asked:
        raise RequestError("version 0.1 kept no settings of runs")
    if max(head.shards) >= len(manifest.shards):
        raise RequestError(f"manifest {head.snapshot} lacks shards of the run")
    own = _own_settings(config, head)
    shards = [manifest.shards[number] for number in head.shards]
    alarms = head.alarms or Alarms.plan(head.images)
    jobs = score_jobs(own, run, model, manifest, shards, alarms, manifest)
    heatmaps = own.score.heatmaps == "grid" and run.heatmaps.exist()
    machines = files.machines() if files else {}
    # What the cut-off needs: the rest is large.
    small = replace(head, settings=[], asked={}, shards=[], drift={}, drift_unknown={}, added=None)
    return RescorePlan(
        model,
        [RescoreJob(job, small, machines.get(job.place), heatmaps) for job in jobs],
        run_id_of(own, model, shards) == head.run_id,
    )


def _own_settings(config: Config, head: RunHead) -> Config:
    """Return the configuration with the settings that the run was made with."""
    score: dict[str, Any] = head.asked.get("score") or {}
    archive: dict[str, Any] = head.asked.get("archive") or {}
    try:
        asked = {
            "score": config.score.model_copy(
                update={name: score[name] for name in ("heatmaps", "pixel_alpha")}
            ),
            "archive": config.archive.model_copy(update={"max_pixels": archive["max_pixels"]}),
        }
    except KeyError as error:
        raise RequestError(f"the settings in run.json lack {error}") from None
    return config.model_copy(update=asked)


def choose(jobs: Sequence[RescoreJob], share: float) -> list[RescoreJob]:
    """Return a random share of jobs, at least one; nobody can know which."""
    number = min(len(jobs), max(1, math.ceil(share * len(jobs))))
    chosen = SystemRandom().sample(range(len(jobs)), number)
    return [jobs[place] for place in sorted(chosen)]


def chance(shards: int, scored: int, changed: int) -> float:
    """Return the probability that at least one of `changed` shards is among those scored again.

    Examples
    --------
    >>> round(chance(100, 1, 1), 4), round(chance(100, 10, 10), 4), chance(8, 8, 1)
    (0.01, 0.6695, 1.0)
    """
    return 1 - math.comb(shards - changed, scored) / math.comb(shards, scored)
