"""What the records of runs, models and manifests refer to, kept from one prune to the next.

So a prune reads only the records that are new or have changed, however many there are.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.api.settings.places import logger
from padim_dist.errors import DamagedFileError
from padim_dist.store.manifests import find_head
from padim_dist.store.models import find_model, manifests_of_fit
from padim_dist.store.objects import StoredObject
from padim_dist.store.parquet import open_parquet
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace

_THREADS = 16
_Record = tuple[str, int, datetime]
"""A record as it was: its path, bytes and last change."""


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
        Names of the archives of a model.
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


_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.timestamp("us", tz="UTC")),
        ("is_finished", pa.bool_()),
        ("turn", pa.int64()),
        ("at", pa.string()),
        ("archives", pa.list_(pa.string())),
        ("model", pa.string()),
        ("fit", pa.string()),
        ("manifests", pa.list_(pa.string())),
    ]
)
"""Columns of the file: a record, and its facts."""


class KnownFacts:
    """Facts by their record; `of_runs` and the like read those that are not known yet."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._path = workspace, f"{workspace.pruned}/known.parquet"
        self._known: dict[_Record, Facts] = {}
        self._asked: set[_Record] = set()
        try:
            with open_parquet(workspace.folder, self._path, "") as parquet:
                for row in parquet.read().to_pylist():
                    record = tuple(row.pop(name) for name in ("path", "size", "modified"))
                    self._known[record] = Facts(**row)
        except FileNotFoundError:
            pass
        except (DamagedFileError, TypeError, KeyError) as error:
            logger.warning("%s is made again: %s", workspace.at(self._path), error)

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
        rows = [
            {"path": path, "size": size, "modified": modified, **vars(self._known[record])}
            for record in sorted(self._asked & self._known.keys())
            for path, size, modified in [record]
        ]
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), sink, compression="zstd")
        self._workspace.folder.put(self._path, sink.getvalue())

    def _find(
        self, objects: Mapping[str, StoredObject], read: Callable[[str], Facts]
    ) -> dict[str, Facts]:
        records = {name: (one.path, one.size, one.modified) for name, one in objects.items()}
        self._asked |= {*records.values()}
        new = {name: record for name, record in records.items() if record not in self._known}
        with ThreadPoolExecutor(_THREADS) as pool:
            self._known |= dict(zip(new.values(), pool.map(read, new), strict=True))
        return {name: self._known[record] for name, record in records.items()}

    def _of_run(self, run_id: str) -> Facts:
        head = Run(self._workspace, run_id).find_head()
        if head is None:
            return Facts(is_finished=False)
        return Facts(
            is_finished=head.is_finished,
            turn=head.turn,
            at="" if head.turn else head.asked_at,
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
