"""Runs: tables, arrays, and ``run.json``, written before the first shard and after the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from padim_dist.core.alarms import Alarms, is_flagged
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.status import count_unsettled
from padim_dist.errors import DamagedFileError, RequestError
from padim_dist.store.manifests import Shard, images_by_group
from padim_dist.store.order import in_order, next_turn
from padim_dist.store.records import make_record, unless_damaged
from padim_dist.store.run_arrays import DriftFigures, Heatmaps, RunDrift
from padim_dist.store.run_tables import REGIONS, SCORES, RunTable, ShardCounts, find_compacted
from padim_dist.store.workspace import Workspace

_THREADS = 16
_PIXEL_ALPHA = 0.001
"""Of runs whose head does not say it."""
_ADVICE = (
    "Remove it and run 'padim-dist score' again with the settings of this run: its finished shards "
    "are not scored again. If the run is not needed, remove its folder"
)


@dataclass(frozen=True)
class RunHead:
    """Settings of a run and, once it is finished, its result: the file ``run.json``.

    Attributes
    ----------
    run_id, model_id, snapshot : str
        Ids of the run, its model and its manifest.
    settings, asked : sequence of mapping, mapping
        Settings that the run is found by, several if different settings gave the same run; and
        all settings that determine results, for people and for ``--resume``.
    alarms : Alarms or None
        The rule of its flags; None in runs of versions that had none.
    shards : sequence of int
        Numbers in the manifest of the run's shards; the index in this list is a shard's place.
    images : int
        Rows of the run when it is finished.
    started_at, asked_at, finished_at : str
        When it was started, when it last became the newest run, and when it was finished: ISO
        8601, UTC. `finished_at` is None, and the following are empty or None, until then.
    statuses, drift : mapping of str to int, mapping of str to DriftFigures
        Rows by status; drift by group.
    flagged : int or None
        Flagged rows; None if the model has no calibration.
    cutoff : float or None
        The highest p-value that is flagged, if it depends on all images (rule ``fdr``).
    drift_unknown : mapping of str to str
        Groups whose drift cannot be known, and why.
    turn : int
        Its place among the runs; see `padim_dist.store.order`.
    """

    run_id: str
    model_id: str
    snapshot: str
    settings: Sequence[Mapping[str, Any]]
    asked: Mapping[str, Any]
    alarms: Alarms | None
    shards: Sequence[int]
    images: int
    started_at: str
    asked_at: str
    finished_at: str | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    flagged: int | None = None
    cutoff: float | None = None
    drift: Mapping[str, DriftFigures] = field(default_factory=dict)
    drift_unknown: Mapping[str, str] = field(default_factory=dict)
    turn: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], file: str) -> RunHead:
        """Return the head from values that this version or an earlier one wrote to a file.

        Raises
        ------
        DamagedFileError
            If they are no head.
        """
        alarms = values.get("alarms")
        former = {
            "asked": values.get("asked") or {},
            "alarms": Alarms.renamed(alarms) if isinstance(alarms, dict) else alarms,
            "drift": values.get("drift") or {},
        }
        head = make_record(cls, {**values, **former}, file, _ADVICE)
        return replace(
            head,
            settings=[_renamed(settings) for settings in head.settings],
            asked=_renamed(head.asked),
        )

    @property
    def is_finished(self) -> bool:
        """Whether all shards are scored and the result is written."""
        return self.finished_at is not None

    @property
    def known_cutoff(self) -> float | None:
        """Highest p-value that is flagged; None while it is not known, or without a rule."""
        return self.alarms.known_cutoff(self.cutoff, self.is_finished) if self.alarms else None

    @property
    def pixel_alpha(self) -> float:
        """Share of normal pixels above the threshold of a region (``score.pixel_alpha``)."""
        return float((self.asked.get("score") or {}).get("pixel_alpha", _PIXEL_ALPHA))


@dataclass(frozen=True)
class Run:
    """A run of a workspace: small, and safe to send to a worker.

    Examples
    --------
    >>> from padim_dist.storage import Folder
    >>> Run(Workspace(Folder("memory://audit")), "8e5c").path
    'runs/8e5c'
    """

    workspace: Workspace
    run_id: str

    @property
    def path(self) -> str:
        """Folder of the run in the workspace."""
        return self.workspace.run(self.run_id)

    @property
    def url(self) -> str:
        """URL of the run's folder."""
        return self.workspace.at(self.path)

    @property
    def scores(self) -> RunTable:
        """The score table."""
        return RunTable(self.workspace, self.path, SCORES)

    @property
    def regions(self) -> RunTable:
        """The table of regions."""
        return RunTable(self.workspace, self.path, REGIONS)

    @property
    def heatmaps(self) -> Heatmaps:
        """The heatmaps."""
        return Heatmaps(self.workspace, f"{self.path}/heatmaps.zarr")

    @property
    def drift(self) -> RunDrift:
        """The drift of the run's groups."""
        return RunDrift(self.workspace, self.path)

    @property
    def metrics_path(self) -> str:
        """File of the evaluation metrics, in the workspace."""
        return f"{self.path}/metrics.json"

    @property
    def report_path(self) -> str:
        """File of the report, in the workspace."""
        return f"{self.path}/report.html"

    def find_head(self) -> RunHead | None:
        """Return the head of the run; None if it was never started.

        Raises
        ------
        DamagedFileError
            If the file is damaged.
        """
        path = f"{self.path}/run.json"
        try:
            values = self.workspace.folder.find_json(path)
        except DamagedFileError as error:
            raise error.advised(_ADVICE) from None
        return None if values is None else RunHead.from_dict(values, self.workspace.at(path))

    def head(self) -> RunHead:
        """Return the head of the run.

        Raises
        ------
        RequestError
            If there is no such run.
        DamagedFileError
            If the file is damaged.
        """
        head = self.find_head()
        if head is None:
            raise RequestError(f"{self.url} is not a run: it has no run.json")
        return head

    def start(
        self, head: RunHead, shards: Sequence[Shard], shape: PyramidShape, heatmaps: bool
    ) -> None:
        """Write the head of an unfinished run; create the arrays of heatmaps and drift."""
        self._put(replace(head, turn=next_turn(list_runs(self.workspace))))
        grid, groups = shape.grids[0], list(images_by_group(shards))
        if heatmaps:
            self.heatmaps.create([shard.images for shard in shards], grid)
        self.drift.create(len(shards), sum(shape.sizes), groups, grid)

    def can_go_on(self, head: RunHead) -> bool:
        """Return whether shards of a finished run with rows that are not settled can be redone.

        They cannot if it was compacted, or finished by a version that kept no means for this.
        """
        return (
            count_unsettled(head.statuses) > 0
            and self.drift.has_means()
            and find_compacted(self.workspace, self.path) is None
        )

    def conclude(
        self,
        counts: Mapping[int, ShardCounts],
        drift: Mapping[str, DriftFigures],
        drift_unknown: Mapping[str, str] | None = None,
    ) -> RunHead:
        """Write the result of the run, given the counts of all shards: it is then finished."""
        head = self.head()
        judged = [count.flagged for count in counts.values() if count.flagged is not None]
        flagged, cutoff = (sum(judged) if judged else None), None
        if head.alarms and head.alarms.needs_all and judged:
            p_values = self.scores.p_values()
            cutoff = head.alarms.find_cutoff(p_values)
            flagged = int(is_flagged(p_values, cutoff).sum())
        finished = replace(
            head,
            finished_at=datetime.now(UTC).isoformat(),
            statuses=dict(sum((Counter(c.statuses) for c in counts.values()), Counter[str]())),
            flagged=flagged,
            cutoff=cutoff,
            drift=drift,
            drift_unknown=drift_unknown or {},
        )
        self._put(finished)
        if not count_unsettled(finished.statuses):
            self.drift.remove_means()  # no shard will be scored again
        return finished

    def ask_again(self, settings: Mapping[str, Any], asked_at: str) -> RunHead:
        """Make a finished run the newest one of these settings; return its head."""
        head = self.head()
        runs = list_runs(self.workspace)
        own = [other for other in runs if settings in other.settings]
        if own and own[-1].run_id == self.run_id:
            return head
        # Different settings can select the same images, e.g. all splits if there is only one.
        known = [*(other for other in head.settings if other != settings), settings]
        head = replace(head, settings=known, asked_at=asked_at, turn=next_turn(runs))
        self._put(head)
        return head

    def _put(self, head: RunHead) -> None:
        self.workspace.folder.put_json(f"{self.path}/run.json", asdict(head))


def list_runs(workspace: Workspace) -> list[RunHead]:
    """Return the heads of all runs, the newest last; damaged ones are left out, with a warning."""
    runs = [Run(workspace, name) for name in workspace.folder.list(workspace.runs)]
    with ThreadPoolExecutor(_THREADS) as pool:
        heads = list(pool.map(lambda run: unless_damaged(run.find_head), runs))
    return in_order(filter(None, heads), lambda head: head.asked_at)


def _renamed(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename ``score.a_run``, as version 0.1 called ``score.false_alarms_per_run``."""
    score = settings.get("score") or {}
    if not isinstance(score, Mapping):
        return settings
    renamed = {"false_alarms_per_run" if key == "a_run" else key: score[key] for key in score}
    return {**settings, "score": renamed} if score else settings
