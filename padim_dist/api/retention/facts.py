"""What the records of runs, models and manifests refer to, kept from one prune to the next.

So a prune reads only the records that are new or have changed, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime

from padim_dist.store.manifests import find_head
from padim_dist.store.models import find_model, manifests_of_fit
from padim_dist.store.objects import StoredObject
from padim_dist.store.records import find_receipt
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace

_THREADS = 16


@dataclass(frozen=True)
class Facts:
    """What the record of a run, model or manifest says.

    Attributes
    ----------
    is_finished : bool
        Whether it is finished.
    turn, at : int, str
        Its place among those of its kind, and the time that decides between equal ones.
    archives : sequence of str
        Names of its archives.
    model, fit : str or None
        Id of the model of a run; id of the fit of a model.
    manifests : sequence of str
        Ids of the manifests that it refers to.
    """

    is_finished: bool
    turn: int = 0
    at: str = ""
    archives: Sequence[str] = ()
    model: str | None = None
    fit: str | None = None
    manifests: Sequence[str] = ()


@dataclass(frozen=True)
class _Known:
    """Facts of a record as it was: its bytes and last change."""

    size: int
    modified: datetime
    facts: Facts


@dataclass(frozen=True)
class _File:
    known: Mapping[str, _Known]


class KnownFacts:
    """Facts by the path of their record; `find` reads those that are not known yet."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._path = workspace, f"{workspace.pruned}/known.json"
        there = find_receipt(workspace.folder, self._path, _File)
        self._known = dict(there.known) if there else {}
        self._asked: set[str] = set()

    def of_runs(self, heads: Mapping[str, StoredObject]) -> dict[str, Facts]:
        """Return the facts of runs, given their heads by id. Raises `DamagedFileError`."""
        return self._find(heads, self._of_run)

    def of_models(self, records: Mapping[str, StoredObject]) -> dict[str, Facts]:
        """Return the facts of models, given their records by id. Raises `DamagedFileError`."""
        return self._find(records, self._of_model)

    def of_manifests(self, receipts: Mapping[str, StoredObject]) -> dict[str, Facts]:
        """Return the facts of manifests, given their receipts by id. Raises `DamagedFileError`."""
        return self._find(receipts, self._of_manifest)

    def keep(self) -> None:
        """Write the facts that were asked for, for the next prune."""
        left = {path: known for path, known in self._known.items() if path in self._asked}
        values = {
            path: {**asdict(known), "modified": known.modified.isoformat()}
            for path, known in left.items()
        }
        self._workspace.folder.put_json(self._path, {"known": values})

    def _find(
        self, records: Mapping[str, StoredObject], read: Callable[[str], Facts]
    ) -> dict[str, Facts]:
        self._asked |= {record.path for record in records.values()}
        new = {name: one for name, one in records.items() if not self._is_known(one)}
        with ThreadPoolExecutor(_THREADS) as pool:
            for record, facts in zip(new.values(), pool.map(read, new), strict=True):
                self._known[record.path] = _Known(record.size, record.modified, facts)
        return {name: self._known[record.path].facts for name, record in records.items()}

    def _is_known(self, record: StoredObject) -> bool:
        known = self._known.get(record.path)
        return known is not None and (known.size, known.modified) == (record.size, record.modified)

    def _of_run(self, run_id: str) -> Facts:
        head = Run(self._workspace, run_id).find_head()
        if head is None:
            return Facts(is_finished=False)
        return Facts(
            is_finished=head.is_finished,
            turn=head.turn,
            at=head.asked_at,
            archives=[head.archive] if head.archive else [],
            model=head.model_id,
            manifests=[head.snapshot],
        )

    def _of_manifest(self, snapshot: str) -> Facts:
        head = find_head(self._workspace, snapshot)
        uses = head.chain.manifests - {snapshot} if head and head.chain else ()
        return Facts(is_finished=head is not None, manifests=sorted(uses))

    def _of_model(self, model_id: str) -> Facts:
        info = find_model(self._workspace, model_id)
        if info is None:
            return Facts(is_finished=False)
        archives = {str((one.get("archive") or {}).get("url")) for one in info.settings}
        return Facts(
            is_finished=True,
            turn=info.turn,
            at=info.asked_at,
            archives=sorted(archives),
            fit=info.fit_id,
            manifests=sorted({info.snapshot, *manifests_of_fit(self._workspace, info.fit_id)}),
        )
