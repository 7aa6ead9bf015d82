"""Judge: apply an alarm rule to a run. No image is read, and nothing is scored again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from tempfile import gettempdir
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from padim_dist.api.settings.lookup import choose_run
from padim_dist.api.settings.places import ConfigLike, as_config, workspace_of
from padim_dist.api.settings.rules import Alpha, plan_alarms
from padim_dist.api.sql.flags import MOST_ANOMALOUS, flagged_sql
from padim_dist.api.sql.tables import open_connection, queries, read_rows
from padim_dist.core.alarms import Alarms, Judgement, LastFlagged, benjamini_hochberg
from padim_dist.errors import RequestError, ResourceError, first_line
from padim_dist.events import Listener, ignore
from padim_dist.pages.words import counted
from padim_dist.store.lease import hold
from padim_dist.store.models import find_model
from padim_dist.store.runs.digests import Digests
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import REGIONS, SCORES, ScoreRow
from padim_dist.store.runs.run import Run

_MEGABYTES, _LEAST_THREADS = 125, 4
"""What the rows of a run may take for each thread, as DuckDB wants it, and for how many at least;
more rows go to temporary files. The process may be a driver's, with a scheduler in it."""


@dataclass(frozen=True)
class JudgeResult:
    """Result of a judgement.

    Attributes
    ----------
    run_id, rule : str
        The run, and the rule in words.
    flagged, before : int or None
        Images that are flagged now, and by the rule before; None if that is not known.
    cutoff : float or None
        Highest p-value that is flagged in all groups; None if it is not known, or not one number.
    regions : int
        Regions that were found in kept heatmaps.
    notes : list of str
        What could not be found.
    """

    run_id: str
    rule: str
    flagged: int | None
    before: int | None
    cutoff: float | None
    regions: int
    notes: list[str] = field(default_factory=list)


def judge(
    config: ConfigLike,
    listener: Listener = ignore,
    *,
    run: str | None = None,
    alpha: Alpha | None = None,
    per_million: float | None = None,
    false_alarms_per_run: float | None = None,
    fdr: float | None = None,
    review: int | None = None,
) -> JudgeResult:
    """Apply another alarm rule to a finished run.

    Scores and p-values stay as they are; the column ``flagged`` follows the new rule everywhere.
    Regions of images that are newly flagged are found in the kept heatmaps.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.
    alpha, per_million, false_alarms_per_run, fdr, review : optional
        The rule, as in the section ``score``; by default that of the configuration.

    Raises
    ------
    RequestError
        If there is no such run, it is not finished, or two rules are given.
    ConfigError
        If the value of a rule is wrong.
    HeldError
        If another command uses the run.

    Examples
    --------
    >>> judge(config, review=50).flagged       # doctest: +SKIP
    50
    """
    config = as_config(config)
    workspace = workspace_of(config)
    head = choose_run(workspace, run)
    if not head.is_finished:
        raise RequestError(
            f"run {head.run_id} is half done; run 'padim-dist score' again: it resumes"
        )
    alarms = plan_alarms(
        config,
        head.images,
        alpha=alpha,
        per_million=per_million,
        false_alarms_per_run=false_alarms_per_run,
        fdr=fdr,
        review=review,
    )
    found = Run(workspace, head.run_id)
    with hold(workspace, found.path) as lease:
        return judge_run(found, head, alarms, lease.guard(listener))


def judge_run(run: Run, head: RunHead, alarms: Alarms, listener: Listener = ignore) -> JudgeResult:
    """Apply a rule to a finished run whose lease is held; see `judge`."""
    judged = Judged(run, head)
    judgement = judged.judge(alarms)
    added = judged.add_regions(judgement, listener)
    run.judge(judgement, added.files)
    return JudgeResult(
        run_id=run.run_id,
        rule=alarms.describe(),
        flagged=judgement.flagged,
        before=head.flagged,
        cutoff=None if alarms.follows_resolution else head.judged(judgement).known_cutoff,
        regions=added.regions,
        notes=added.notes,
    )


@dataclass(frozen=True)
class AddedRegions:
    """Regions that `Judged.add_regions` found: number, what is missing, digests of new files."""

    regions: int = 0
    notes: list[str] = field(default_factory=list)
    files: Digests = field(default_factory=dict)


class Judged:
    """The judged columns of a run whose shards are all scored, read once.

    Parameters
    ----------
    run, head : Run, RunHead
        The run and its head, finished or not.
    """

    def __init__(self, run: Run, head: RunHead) -> None:
        self._run, self._head = run, head
        self._database = open_connection(run.workspace)
        ((threads,),) = self._rows("SELECT current_setting('threads')")
        memory = _MEGABYTES * max(_LEAST_THREADS, threads)
        self._database.execute(f"SET memory_limit = '{memory}MB'")
        kept = "heatmap_row IS NOT NULL" if run.heatmaps.exist() else "false"
        self._copy(
            "judged",
            SCORES,
            f"run_id, image_id, score, p_value, resolution, uri, member, {kept} AS has_heatmap",
            "score IS NOT NULL",
        )

    def judge(self, alarms: Alarms) -> Judgement:
        """Return what a rule gives; nothing is written."""
        ((scored, judged),) = self._rows("SELECT count(*), count(p_value) FROM judged")
        if not (scored if alarms.is_by_rank else judged):
            return Judgement(alarms)
        cutoff, last = None, None
        if alarms.is_by_rank:
            at = min(int(alarms.asked), scored) - 1
            (row,) = self._rows(
                "SELECT p_value, score, uri, member FROM judged "
                f"ORDER BY {MOST_ANOMALOUS} LIMIT 1 OFFSET {at}"
            )
            last = LastFlagged(*row)
        elif alarms.needs_all:
            cutoff = benjamini_hochberg(self.p_values(), alarms.asked)
        judgement = Judgement(alarms, cutoff, last)
        return replace(judgement, flagged=self.count(judgement))

    def p_values(self) -> npt.NDArray[np.float64]:
        """Return all p-values, shape (n,)."""
        found = self._execute("SELECT p_value FROM judged WHERE p_value IS NOT NULL")
        return np.asarray(found.fetchnumpy()["p_value"], np.float64)

    def count(self, judgement: Judgement) -> int:
        """Return the number of images that a judgement flags."""
        ((flagged,),) = self._rows(f"SELECT count(*) FROM judged WHERE {self._flagged(judgement)}")
        return int(flagged)

    def add_regions(self, judgement: Judgement, listener: Listener) -> AddedRegions:
        """Find the regions that flagged images lack, and write them to a file more."""
        self._run.remove_unknown_regions()
        self._copy("known", REGIONS, "image_id", "true")
        self._execute(
            "CREATE OR REPLACE TEMP TABLE lacking AS SELECT image_id, has_heatmap FROM judged "
            f"WHERE {self._flagged(judgement)} AND p_value IS NOT NULL "
            "AND image_id NOT IN (SELECT image_id FROM known)"
        )
        ((lacking, without),) = self._rows(
            "SELECT count(*), count(*) FILTER (NOT has_heatmap) FROM lacking"
        )
        notes = []
        if without:
            notes = [
                f"regions of {counted(without, 'flagged image')} are not known: "
                f"{self._run.why_no_heatmaps()}"
            ]
        if lacking == without:
            return AddedRegions(notes=notes)
        wanted = "SEMI JOIN (FROM lacking WHERE has_heatmap) USING (image_id) ORDER BY heatmap_row"
        rows = [
            row
            for some in queries(self._database, SCORES, self._run, self._head)
            for row in read_rows(ScoreRow, self._database.sql(f"SELECT * FROM ({some}) {wanted}"))
        ]
        if find_model(self._run.workspace, self._head.model_id) is None:
            found = counted(len(rows), "flagged image")
            gone = f"regions of {found} are not known: model {self._head.model_id} is gone"
            return AddedRegions(notes=[*notes, gone])
        from padim_dist.api.pipeline.kept_regions import find_kept_regions  # imports torch

        regions = find_kept_regions(self._run, self._head, rows, listener)
        return AddedRegions(len(regions), notes, self._run.regions.add(regions))

    def _copy(self, name: str, table: str, columns: str, condition: str) -> None:
        """Copy columns of a table of the run into one of the database."""
        for number, some in enumerate(queries(self._database, table, self._run, self._head)):
            into = f"INSERT INTO {name}" if number else f"CREATE OR REPLACE TEMP TABLE {name} AS"
            self._execute(f"{into} SELECT {columns} FROM ({some}) WHERE {condition}")

    def _flagged(self, judgement: Judgement) -> str:
        return flagged_sql([self._head.judged(judgement)])

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._execute(sql).fetchall()

    def _execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        try:
            return self._database.execute(sql)
        except duckdb.OutOfMemoryException as error:
            raise ResourceError(
                f"the rows of run {self._head.run_id} fit neither in the memory that judging them "
                f"may take nor in the temporary folder {gettempdir()} ({first_line(error)}). Make "
                "room there, or set TMPDIR to another folder; then run the same command again: "
                "what is scored stays"
            ) from error
