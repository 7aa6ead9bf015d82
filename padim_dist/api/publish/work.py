"""Publishing at one place: what has changed there, and the steps of replacing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import Protocol

import pyarrow as pa

from padim_dist.api.publish.columns import VERSION
from padim_dist.api.publish.rows import (
    IMAGES_TABLE,
    REGIONS_TABLE,
    Piece,
    RowReader,
    Table,
    reading,
)
from padim_dist.errors import RunError
from padim_dist.store.published import (
    Published,
    find_published,
    published_days,
    put_published,
)
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace, content_id


class Place(Protocol):
    """Where tables are published: `IcebergPlace` and `HivePlace`.

    Attributes
    ----------
    title, key : str
        Words for messages, without secrets; what tells it from other places.
    tables : list of Table
        Its tables, in the order in which they are written.
    """

    title: str
    key: str
    tables: list[Table]

    def identity(self) -> str:
        """Return what tells its tables from others that had the same name."""

    def replace(
        self,
        table: Table,
        runs: Sequence[str],
        days: Sequence[date],
        read: Callable[[str], Iterator[pa.Table]],
    ) -> None:
        """Replace the rows of runs by those that they have now.

        Whatever is killed or repeated, the table never has a row twice. If it fails, rows of these
        runs may be missing until it is called again.

        Parameters
        ----------
        table : Table
            Which of the tables.
        runs, days : sequence of str, sequence of date
            Ids of the runs; all days under which the table may have rows of them, last the day
            under which it has them then.
        read : callable
            Returns the rows of a run, given its id, a part at a time. If it raises an error, the
            rows that the table has of that run stay.
        """


@dataclass(frozen=True)
class Work:
    """Publishing at one place.

    Attributes
    ----------
    workspace, place, identity : Workspace, Place, str
        Where results are, where they are published, and the identity of the tables there.
    reader : RowReader
        Reads the rows.
    """

    workspace: Workspace
    place: Place
    identity: str
    reader: RowReader

    def has_changed(self, piece: Piece) -> bool:
        """Return whether a run of a piece is not there, or not as it is now."""
        return any(
            known is None or known.revision != self._revision(piece, head)
            for head in piece.runs
            for known in [self._known(head)]
        )

    def usable(self, piece: Piece) -> tuple[Piece, list[str]]:
        """Return a piece without the runs whose tables are gone, and notes on these."""
        gone = [
            head.run_id
            for head in piece.runs
            if head.images and not Run(self.workspace, head.run_id).scores.files()
        ]
        notes = [f"run {run_id} is not published: its tables are gone" for run_id in gone]
        kept = [head for head in piece.runs if head.run_id not in gone]
        return replace(piece, runs=kept), notes

    def publish(self, piece: Piece, advance: Callable[[int], None]) -> list[Published]:
        """Publish the runs of a piece; return what was written.

        Before the tables change, the new day is written down. So if this is killed, the next call
        knows every day under which they may have rows of a run.

        Parameters
        ----------
        piece : Piece
            The runs.
        advance : callable
            Receives the number of further images that are written.
        """
        heads = {head.run_id: head for head in piece.runs}
        former = published_days(self.workspace, heads) - {piece.day.isoformat()}
        days = [*map(date.fromisoformat, sorted(former)), piece.day]
        for run_id in heads:
            self._put(Published(run_id, self.identity, [*map(str, days)], piece.night))
        rows: dict[tuple[str, str], int] = {}
        for table in self.place.tables:

            def read(run_id: str, table: Table = table) -> Iterator[pa.Table]:
                head, rows[table.name, run_id] = heads[run_id], 0
                with reading(run_id):
                    for part in self.reader.read(table, piece, head):
                        rows[table.name, run_id] += len(part)
                        if table is IMAGES_TABLE:
                            advance(len(part))
                        yield part
                    self._check(head, rows[table.name, run_id] if table is IMAGES_TABLE else None)

            self.place.replace(table, list(heads), days, read)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        done = [
            Published(
                run_id=run_id,
                tables=self.identity,
                days=[str(piece.day)],
                night=piece.night,
                revision=self._revision(piece, head),
                images=rows[IMAGES_TABLE.name, run_id],
                regions=rows.get((REGIONS_TABLE.name, run_id), 0),
                published_at=now,
            )
            for run_id, head in heads.items()
        ]
        for one in done:
            self._put(one)
        return done

    def _check(self, head: RunHead, images: int | None) -> None:
        """Refuse what was read of a run that has lost rows, or loses them now, e.g. to prune.

        A run that is removed loses its head first, so what was read under the head is whole.
        """
        now = Run(self.workspace, head.run_id).find_head()
        found = None
        if now is None or now.finished_at != head.finished_at:
            found = "it was removed, or scored again, while it was read"
        elif images not in (None, head.images):
            found = f"its score table has {images} of {head.images} rows"
        if found:
            raise RunError(
                f"run {head.run_id} is not published: {found}. What is published of it stays as it "
                "was; 'padim-dist publish' tries again, and 'padim-dist verify' finds what is lost"
            )

    def _known(self, head: RunHead) -> Published | None:
        known = find_published(self.workspace, self.place.key, head.run_id)
        return known if known and known.tables == self.identity else None

    def _put(self, published: Published) -> None:
        put_published(self.workspace, self.place.key, published)

    def _revision(self, piece: Piece, head: RunHead) -> str:
        """Return what the rows of a run depend on, besides the run itself."""
        content: Mapping[str, object] = {
            "columns": VERSION,
            "night": piece.night,
            "day": str(piece.day),
            "finished_at": head.finished_at,
            "rule": head.alarms and asdict(head.alarms),
            "cutoff": head.cutoff,
            "last": head.last and asdict(head.last),
            "reviews": self.reader.newest_review(head),
        }
        return content_id({"published": content})
