"""Rows of the published tables, read from the runs of a workspace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from padim_dist.api.publish.columns import DAY, IMAGES, REGIONS, Column, schema_of
from padim_dist.api.settings.places import archive_of, archive_settings, workspace_of
from padim_dist.api.sql.flags import MOST_ANOMALOUS, literal
from padim_dist.api.sql.reviews import add_reviews_table, with_verdicts
from padim_dist.api.sql.tables import open_connection, quoted, table_query
from padim_dist.config import Config
from padim_dist.errors import PadimDistError, RunError
from padim_dist.redaction import redacted
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import REGIONS as REGIONS_OF_RUN
from padim_dist.store.runs.rows import SCORES
from padim_dist.store.runs.run import Run

ROWS = 250_000
"""Most rows in memory at a time, about 100 MB of Arrow."""


@dataclass(frozen=True)
class Piece:
    """Runs that are published in one commit: those of a night, or a run that belongs to none.

    Attributes
    ----------
    night, day : int or None, date
        Number of the night, and the date (UTC) of its opening, or of the start of the run.
    runs : list of RunHead
        Heads of the runs.
    """

    night: int | None
    day: date
    runs: list[RunHead]

    @property
    def title(self) -> str:
        """Words for messages."""
        return f"night {self.night}" if self.night else f"run {self.runs[0].run_id}"


@dataclass(frozen=True)
class Table:
    """A published table: the role it has, its columns, and the table of a run that it is from."""

    name: str
    columns: Sequence[Column]
    source: str
    order: str

    @property
    def schema(self) -> pa.Schema:
        """Columns with their types and meanings."""
        return schema_of(self.columns)


IMAGES_TABLE = Table("images", IMAGES, SCORES, MOST_ANOMALOUS)
REGIONS_TABLE = Table("regions", REGIONS, REGIONS_OF_RUN, "p_value NULLS LAST, image_id, region")
TABLES = (REGIONS_TABLE, IMAGES_TABLE)
"""In the order in which they are written: who waits for the images of a night has its regions."""


class RowReader:
    """Reads the rows of runs, with the reviews as they are now.

    Parameters
    ----------
    config : Config
        The configuration.
    """

    def __init__(self, config: Config) -> None:
        self._workspace = workspace_of(config)
        self._archive = archive_settings(config)["url"]
        self._below = f"{redacted(archive_of(config).url)}/"
        self._connection = open_connection(self._workspace)
        self._reviewed = add_reviews_table(self._connection, self._workspace) > 0

    def newest_review(self, head: RunHead) -> int:
        """Return the number of the newest review of an image of a run; 0: there is none."""
        if not self._reviewed:
            return 0
        run = (Run(self._workspace, head.run_id), head)
        with reading(head.run_id):
            rows = table_query(self._connection, SCORES, [run])
            ((newest,),) = self._connection.sql(
                f"SELECT max(review) FROM ({rows}) AS rows JOIN reviews ON "
                "rows.image_id = reviews.image_id AND rows.etag IS NOT DISTINCT FROM reviews.etag"
            ).fetchall()
        return newest or 0

    def read(self, table: Table, piece: Piece, head: RunHead) -> Iterator[pa.Table]:
        """Yield the rows of a run, the most anomalous first, at most `ROWS` at a time.

        The same run gives the same rows in the same order.
        """
        run = Run(self._workspace, head.run_id)
        query = table_query(self._connection, table.source, [(run, head)])
        if table.source == SCORES:
            query = with_verdicts(query, self._reviewed)
        night = "NULL" if piece.night is None else str(piece.night)
        path = (
            f"CASE WHEN starts_with(uri, {literal(self._below)}) "
            f"THEN substr(uri, {len(self._below) + 1}) ELSE uri END "
            "|| coalesce(' ' || member, '')"
        )
        made = {
            DAY: f"DATE {literal(piece.day.isoformat())}",
            "night": f"{night}::BIGINT",
            "archive": literal(head.archive or self._archive),
            "path": path,
        }
        columns = ", ".join(
            f"{made.get(one.name, quoted(one.name))} AS {quoted(one.name)}" for one in table.columns
        )
        schema = table.schema
        found = self._connection.sql(f"SELECT {columns} FROM ({query}) ORDER BY {table.order}")
        for batch in found.to_arrow_reader(ROWS):
            yield pa.Table.from_batches([batch]).cast(schema)


@contextmanager
def reading(run_id: str) -> Iterator[None]:
    """Turn errors of reading the rows of a run into ours; they are none of published tables."""
    try:
        yield
    except PadimDistError:
        raise
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise RunError(
            f"run {run_id} cannot be read to be published: {type(error).__name__}: {error}. What "
            "is published of it stays as it was; 'padim-dist publish' tries again"
        ) from None
