"""Runs: tables, arrays, and ``run.json``, written before the first shard and after the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from padim_dist.core.alarms import Judgement
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.status import count_unsettled
from padim_dist.errors import DamagedFileError, RequestError
from padim_dist.store.manifests import Shard, images_by_group
from padim_dist.store.order import in_order, next_turn
from padim_dist.store.records import find_record, unless_damaged
from padim_dist.store.runs.arrays import DriftFigures, Heatmaps, RunDrift
from padim_dist.store.runs.digests import Digests, RunFiles, digest_of, find_files
from padim_dist.store.runs.head import ADVICE, RunHead
from padim_dist.store.runs.pruned import Pruned
from padim_dist.store.runs.rows import REGIONS, SCORES
from padim_dist.store.runs.tables import RunTable, ShardCounts, find_compacted
from padim_dist.store.runs.turns import claim_turn, newest_turn
from padim_dist.store.workspace import Workspace

_THREADS = 16
HEATMAPS = "heatmaps.zarr"
"""Name of the heatmaps in the folder of a run."""
_PRUNED_ADVICE = "Remove it: the run then does not say any more what was pruned of it"


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
    def head_path(self) -> str:
        """File of the head, in the workspace."""
        return f"{self.path}/run.json"

    @property
    def _pruned_path(self) -> str:
        return f"{self.path}/pruned.json"

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
        return Heatmaps(self.workspace, f"{self.path}/{HEATMAPS}")

    @property
    def drift(self) -> RunDrift:
        """The drift of the run's groups."""
        return RunDrift(self.workspace, self.path)

    def find_pruned(self) -> Pruned | None:
        """Return what `padim-dist prune` removed of the run; None if nothing."""
        return find_record(self.workspace.folder, self._pruned_path, Pruned, _PRUNED_ADVICE)

    def put_pruned(self, name: str) -> None:
        """Write down that a file or folder of the run is removed; only then remove it."""
        before = self.find_pruned()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        found = Pruned({name: now, **(before.removed if before else {})})
        self.workspace.folder.put_json(self._pruned_path, asdict(found))

    def why_no_heatmaps(self) -> str | None:
        """Return why the run has no heatmaps, in words; None if it has them."""
        if self.heatmaps.exist():
            return None
        pruned = self.find_pruned()
        if pruned and (when := pruned.when(HEATMAPS)):
            return f"heatmaps of run {self.run_id} were pruned on {when[:10]} (retention.heatmaps)"
        return f"run {self.run_id} kept no heatmaps (score.heatmaps: none)"

    def has_pruned_heatmaps(self) -> bool:
        """Return whether the heatmaps of the run were pruned."""
        pruned = self.find_pruned()
        return pruned is not None and pruned.when(HEATMAPS) is not None

    def pruned_notes(self) -> list[str]:
        """Return a sentence if its heatmaps were pruned."""
        if not self.has_pruned_heatmaps():
            return []
        # A prune that was killed has written it down, and left them.
        why = self.why_no_heatmaps()
        return [] if why is None else [f"{why}: scores and regions are kept."]

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
        path = self.head_path
        try:
            values = self.workspace.folder.find_json(path)
        except DamagedFileError as error:
            raise error.advised(ADVICE) from None
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
        """Write the head of an unfinished run; create the arrays of heatmaps and drift.

        Without heatmaps, added regions that are there stay: they cannot be found again. They are
        of a run whose head was damaged after its heatmaps were pruned.
        """
        added = {} if heatmaps else self._added_digests()
        self._put(replace(head, turn=self._claim_turn(), added=added))
        grid, groups = shape.grids[0], list(images_by_group(shards))
        if heatmaps:
            self.heatmaps.create([shard.images for shard in shards], grid)
        self.drift.create(len(shards), sum(shape.sizes), groups, grid)

    def can_go_on(self, head: RunHead) -> bool:
        """Return whether shards of a finished run with rows that are not settled can be redone.

        They cannot if it was compacted, if its heatmaps were pruned, or if it was finished by a
        version that kept no means for this.
        """
        return (
            count_unsettled(head.statuses) > 0
            and self.drift.has_means()
            and find_compacted(self.workspace, self.path) is None
            and self.find_pruned() is None
        )

    def conclude(
        self,
        counts: Mapping[int, ShardCounts],
        judgement: Judgement,
        drift: Mapping[str, DriftFigures],
        drift_unknown: Mapping[str, str] | None = None,
        added: Digests | None = None,
    ) -> RunHead:
        """Write the result of the run, given the counts of all shards: it is then finished."""
        before = self.head()
        finished = replace(
            before.judged(judgement).with_added(added or {}),
            finished_at=datetime.now(UTC).isoformat(),
            statuses=dict(sum((Counter(c.statuses) for c in counts.values()), Counter[str]())),
            drift=drift,
            drift_unknown=drift_unknown or {},
            files=self._write_files(counts) or before.files or self._listed(),
        )
        self._put(finished)
        if not count_unsettled(finished.statuses):
            self.drift.remove_means()  # no shard will be scored again
        return finished

    def judge(self, judgement: Judgement, added: Digests) -> RunHead:
        """Replace the judgement of a finished run, given files it has added; return its head."""
        head = self.head().judged(judgement).with_added(added)
        self._put(head)
        return head

    def remove_unknown_regions(self) -> None:
        """Remove files with added regions that the head does not name: a killed judge left them."""
        head = self.find_head()
        if head is None or head.added is None:
            return
        for path in self.regions.added_files():
            if path.removeprefix(f"{self.path}/") not in head.added:
                self.workspace.folder.remove(path)

    def _write_files(self, counts: Mapping[int, ShardCounts]) -> str | None:
        """Write the list of the run's files; return its digest. None if the run is compacted."""
        shards = {place: count.files for place, count in counts.items() if count.files}
        if len(shards) < len(counts):
            return None
        # The description of the arrays says what their numbers mean.
        names = ("heatmaps.zarr", "heatmaps.zarr/distance", "drift.zarr", "drift.zarr/ratio")
        with ThreadPoolExecutor(len(names)) as pool:
            found = list(pool.map(self._find_digest, [f"{name}/zarr.json" for name in names]))
        files = RunFiles.of(shards, {k: v for one in found for k, v in one.items()})
        return files.write(self.workspace.folder, self.path)

    def _listed(self) -> str | None:
        """Return the digest of the list of files that is there: of a run with a damaged head."""
        found = unless_damaged(lambda: find_files(self.workspace.folder, self.path))
        return found[1] if found else None

    def _added_digests(self) -> Digests:
        """Return the digests of the files with added regions that are there."""
        folder, files = self.workspace.folder, self.regions.added_files()
        return {path.removeprefix(f"{self.path}/"): digest_of(folder.read(path)) for path in files}

    def _find_digest(self, file: str) -> Digests:
        try:
            return {file: digest_of(self.workspace.folder.read(f"{self.path}/{file}"))}
        except FileNotFoundError:
            return {}

    def is_newest(self, settings: Mapping[str, Any]) -> bool:
        """Return whether it is the newest run, and known by these settings."""
        return self._is_newest(self.head(), settings)

    def ask_again(self, settings: Mapping[str, Any], asked_at: str) -> RunHead:
        """Make a finished run the newest one, known by these settings; return its head."""
        head = self.head()
        if self._is_newest(head, settings):
            return head
        # Different settings can select the same images, e.g. all splits if there is only one.
        known = [*(other for other in head.settings if other != settings), settings]
        head = replace(head, settings=known, asked_at=asked_at, turn=self._claim_turn())
        self._put(head)
        return head

    def _is_newest(self, head: RunHead, settings: Mapping[str, Any]) -> bool:
        if settings not in head.settings:
            return False
        newest = newest_turn(self.workspace)
        if newest is None:
            return list_runs(self.workspace)[-1].run_id == self.run_id
        return head.turn == newest

    def _claim_turn(self) -> int:
        runs = partial(list_runs, self.workspace)
        return claim_turn(self.workspace, self.run_id, lambda: next_turn(runs()) - 1)

    def _put(self, head: RunHead) -> None:
        self.workspace.folder.put_json(self.head_path, asdict(head))


def list_runs(workspace: Workspace) -> list[RunHead]:
    """Return the heads of all runs, the newest last; damaged ones are left out, with a warning."""
    runs = [Run(workspace, name) for name in workspace.folder.list(workspace.runs)]
    with ThreadPoolExecutor(_THREADS) as pool:
        heads = list(pool.map(lambda run: unless_damaged(run.find_head), runs))
    return in_order(filter(None, heads), lambda head: head.asked_at)
