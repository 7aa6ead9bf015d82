"""Rescoring: score a shard of a run again and compare; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from padim_dist.core.status import SCORED
from padim_dist.engine.rescoring.differences import Closeness, Difference, ShardComparison
from padim_dist.engine.score import ScoredShard, compute_shard
from padim_dist.engine.score_job import ScoreJob
from padim_dist.engine.source import ShardSource
from padim_dist.engine.task import Report
from padim_dist.engine.worker import machine
from padim_dist.errors import DamagedFileError, PadimDistError
from padim_dist.store.arrays import reports_array_damage
from padim_dist.store.runs.arrays import as_kept
from padim_dist.store.runs.head import RunHead

_MOST = 20
"""Differences of a shard that are named; all are counted."""


@dataclass(frozen=True)
class RescoreJob:
    """What a worker needs to score a shard again.

    Attributes
    ----------
    score : ScoreJob
        The job that scored it.
    head : RunHead
        The head of the run, for its cut-off.
    scored_on : str or None
        Processor and software that scored it; None if it is not known.
    heatmaps : bool
        Whether its heatmaps are there to be compared.
    """

    score: ScoreJob
    head: RunHead
    scored_on: str | None
    heatmaps: bool

    @property
    def name(self) -> str:
        """Name of the task: place of the shard."""
        return self.score.name

    @property
    def size(self) -> int:
        """Images of the shard."""
        return self.score.size

    @property
    def sources(self) -> Sequence[ShardSource]:
        """The shard."""
        return self.score.sources

    def find(self) -> None:
        """Return None: it is always done."""


@dataclass(frozen=True)
class Rescored:
    """Outcome of scoring a shard again.

    Attributes
    ----------
    done, failed : int
        Rows of the shard, and those that are not scored.
    rows : int
        Rows that were compared.
    count, differences : int, list of Difference
        Number of differences, and the first of them.
    changed : list of str
        Images that could not be compared: they have changed since, or cannot be reached.
    unsettled : list of str
        Images that could not be compared: their rows say that they could not be reached.
    machine : str
        Processor and software of this worker.
    is_exact : bool
        Whether bits were compared, since they are those that scored the shard.
    """

    done: int
    failed: int
    rows: int
    machine: str
    is_exact: bool
    count: int = 0
    differences: list[Difference] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)

    @property
    def is_compared(self) -> bool:
        """Whether every row of the shard was compared."""
        return self.rows == self.done


def rescore_shard(job: RescoreJob, report: Report) -> Rescored:
    """Task: score a shard again, with the model of its run, and compare all results."""
    run, place = job.score.run, job.score.place
    here = machine(job.score.packages)
    is_exact = job.scored_on == here
    damaged: list[Difference] = []
    try:
        stored, regions = run.scores.read_shard(place), run.regions.read_shard(place)
    except DamagedFileError as error:
        damaged.append(_unreadable(job, error))
        stored, regions = run.scores.make([]), run.regions.make([])
    shard = compute_shard(job.score, report, set(regions["image_id"].to_pylist()))
    if job.score.heatmaps and job.heatmaps:
        shard.number_heatmaps(run.heatmaps.first_row(place))
    elif "heatmap_row" in stored.column_names:
        stored = stored.drop_columns("heatmap_row")
    closeness = None if is_exact else Closeness.of(job.score.embedding.precision)
    compared = ShardComparison(stored, run.scores.make(shard.table), closeness)
    if job.score.heatmaps and job.heatmaps:
        damaged += _compare_heatmaps(job, shard, compared)
    if is_exact:
        compared.compare_regions(regions, run.regions.make(shard.regions), _flagged(job, shard))
    found = damaged or compared.differences
    return Rescored(
        done=len(shard.table),
        failed=sum(row.status != SCORED for row in shard.table),
        rows=compared.rows,
        machine=here,
        is_exact=is_exact,
        count=len(found),
        differences=found[:_MOST],
        changed=compared.changed,
        unsettled=compared.unsettled,
    )


def _compare_heatmaps(
    job: RescoreJob, shard: ScoredShard, compared: ShardComparison
) -> list[Difference]:
    """Compare heatmaps; return the damage if they cannot be read."""
    heatmaps = job.score.run.heatmaps
    first = heatmaps.first_row(job.score.place)
    order = {row.image_id: place for place, row in enumerate(shard.table)}
    try:
        with reports_array_damage(heatmaps.path, ""):
            stored = heatmaps.read(slice(first, first + len(shard.table)))
    except DamagedFileError as error:
        return [_unreadable(job, error)]
    compared.compare_heatmaps(stored, as_kept(shard.maps), order)
    return []


def _unreadable(job: RescoreJob, error: PadimDistError) -> Difference:
    return Difference(job.name, None, f"it cannot be read: {error}")


def _flagged(job: RescoreJob, shard: ScoredShard) -> set[str]:
    """Return the flagged images: they must have regions, which a judgement finds in heatmaps."""
    found = set()
    for row in shard.table:
        cutoff = job.head.cutoff_in(row.resolution or 0.0)
        if row.p_value is None or row.heatmap_row is None or cutoff is None:
            continue
        # By rank others with the last p-value may not be flagged.
        if row.p_value < cutoff or (row.p_value == cutoff and job.head.last is None):
            found.add(row.image_id)
    return found
