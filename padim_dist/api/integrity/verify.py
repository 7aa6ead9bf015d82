"""Verify: check the digests of a run's files; score a random share of its shards again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb

from padim_dist.api.integrity.files import about_tables, check_files
from padim_dist.api.integrity.plan import RescorePlan, chance, choose, plan_rescore
from padim_dist.api.settings.lookup import choose_run
from padim_dist.api.settings.places import ConfigLike, as_config, workspace_of
from padim_dist.api.sql.tables import open_connection, table_query
from padim_dist.config import Config
from padim_dist.engine.cluster.local import settle
from padim_dist.engine.memory import projection
from padim_dist.engine.rescoring.differences import Closeness, Difference
from padim_dist.engine.rescoring.rescore import Rescored, rescore_shard
from padim_dist.engine.workers import open_workers
from padim_dist.errors import RequestError, RunError
from padim_dist.events import Listener, ignore
from padim_dist.pages.words import counted, listed, part_of
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.pruned import Pruned
from padim_dist.store.runs.rows import SCORES
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tables import Compacted, find_compacted
from padim_dist.store.weights import kept_weights_bytes

_CHANGED = (1, 10, 100)
"""Numbers of changed shards for which the chance to find one is said."""


@dataclass(frozen=True)
class Chance:
    """Probability to find a change of results and digests in this number of shards."""

    shards: int
    probability: float


@dataclass(frozen=True)
class VerifyResult:
    """Result of a verification.

    Attributes
    ----------
    run_id : str
        The run.
    verdict : str
        ``"as it was written"`` or ``"different"``.
    files, pruned, without_digest : int
        Files compared with their digests; files that `prune` removed; files without a digest.
    shards, rescored, rows : int
        Shards of the run, those scored again, and rows compared.
    changed : list of str
        Images of these shards that could not be compared: they have changed since, or cannot be
        reached.
    unsettled : list of str
        Images that could not be compared: their rows say that they could not be reached, and now
        they can. It can be true; it can also hide a result.
    chances : list of Chance
        How likely it was to find results that somebody changed together with their digests, in
        shards whose rows can all be compared.
    differences : list of Difference
        What differs: at most 20 for each shard.
    notes : list of str
        What was not compared, and why.
    """

    run_id: str
    verdict: str
    files: int
    pruned: int
    without_digest: int
    shards: int
    rescored: int
    rows: int
    changed: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    chances: list[Chance] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def verify(
    config: ConfigLike,
    listener: Listener = ignore,
    *,
    run: str | None = None,
    share: float = 0.01,
    all_shards: bool = False,
) -> VerifyResult:
    """Check that the files of a run are those that were written, and its results those of today.

    All files are compared with their digests. Then a random share of the shards is scored again, by
    the run's own model and settings, and compared with the stored rows, regions and heatmaps: bit
    for bit with the same processor and software, otherwise within a tolerance. Nothing is written.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.
    share : float, optional
        Share of the shards to score again, above 0 and at most 1; at least one shard.
    all_shards : bool, optional
        Score all shards again.

    Raises
    ------
    RequestError
        If there is no such run, it is not finished, or `share` is out of range.
    RunError
        If another command changes the run meanwhile, or a shard cannot be scored.

    Examples
    --------
    >>> verify(config, share=0.1).is_same       # doctest: +SKIP
    True
    """
    config = as_config(config)
    if not 0 < share <= 1:
        raise RequestError(f"share is {share}; it must be above 0 and at most 1 (100 %)")
    workspace = workspace_of(config)
    head = choose_run(workspace, run)
    if not head.is_finished:
        raise RequestError(
            f"run {head.run_id} is half done; run 'padim-dist score' again: it resumes"
        )
    found, notes = Run(workspace, head.run_id), list[str]()
    before = head, *_state(found)
    check = check_files(found, head, listener)
    differences = list(check.differences)
    if not about_tables(differences):
        differences += _check_counts(found, head)
    if head.files is None:
        notes.append("version 0.4 or earlier wrote this run: most of its files have no digests")
    try:
        plan = plan_rescore(config, found, head, check.listed)
    except RequestError as error:
        notes.append(f"no shard was scored again: {error}")
        outcomes: list[Rescored] = []
    else:
        if head.files is not None and not plan.is_own_id:
            what = "its model, manifest, shards or settings are not those that gave the run its id"
            differences.append(Difference("run.json", None, what))
        outcomes = _rescore(config, found, plan, 1.0 if all_shards else share, listener)
        notes += _notes(plan, outcomes)
    differences += [one for outcome in outcomes for one in outcome.differences]
    if differences and (found.find_head(), *_state(found)) != before:
        raise RunError(
            f"another command changed run {head.run_id} while it was verified; run the same "
            "command again"
        )
    shards, whole = len(head.shards), sum(outcome.is_compared for outcome in outcomes)
    return VerifyResult(
        run_id=head.run_id,
        verdict="different" if differences else "as it was written",
        files=check.checked,
        pruned=check.pruned,
        without_digest=len(check.without),
        shards=shards,
        rescored=len(outcomes),
        rows=sum(outcome.rows for outcome in outcomes),
        changed=[image for outcome in outcomes for image in outcome.changed],
        unsettled=[image for outcome in outcomes for image in outcome.unsettled],
        chances=[
            Chance(changed, chance(shards, whole, changed))
            for changed in _CHANGED
            if changed <= shards and whole
        ],
        differences=differences,
        notes=notes,
    )


def _state(run: Run) -> tuple[Compacted | None, Pruned | None]:
    """Return what other commands do to the files of a run, beside its head."""
    return find_compacted(run.workspace, run.path), run.find_pruned()


def _check_counts(run: Run, head: RunHead) -> list[Difference]:
    """Compare the counts in the head with the score table."""
    database = open_connection(run.workspace)
    scores = table_query(database, SCORES, [(run, head)])
    counts = "SELECT status, count(*), count(*) FILTER (flagged)"
    try:
        rows = database.execute(f"{counts} FROM ({scores}) GROUP BY status").fetchall()
    except duckdb.Error as error:
        return [Difference(SCORES, None, f"it cannot be read: {str(error).splitlines()[0]}")]
    statuses = {status: count for status, count, _ in rows}
    flagged = sum(flagged for *_, flagged in rows)
    found = []
    if statuses != dict(head.statuses):
        found.append(
            f"its rows by status are {dict(head.statuses)}, the score table has {statuses}"
        )
    if head.flagged is not None and flagged != head.flagged:
        found.append(f"it says {head.flagged} flagged images; by its rule there are {flagged}")
    return [Difference("run.json", None, what) for what in found]


def _rescore(
    config: Config, run: Run, plan: RescorePlan, share: float, listener: Listener
) -> list[Rescored]:
    """Score some shards again; return the outcomes in the order of the shards."""
    embedding = plan.model.largest
    weights = kept_weights_bytes(run.workspace, embedding.weights)
    most = max((job.size for job in plan.jobs), default=0)
    rest = (config.cluster.readers, config.archive.max_pixels, most)
    cluster = settle(config.cluster, "verify", projection.score_need(embedding, weights, *rest))
    jobs = choose(plan.jobs, share)
    with open_workers(cluster, len(jobs), listener) as workers:
        done = workers.map(rescore_shard, jobs, "verify: score")
    done.sort(key=lambda one: one[0].score.place)
    return [outcome for _, outcome in done]


def _notes(plan: RescorePlan, outcomes: Sequence[Rescored]) -> list[str]:
    """Return what was not compared bit for bit, and what is only counted."""
    notes = []
    others = Counter(outcome.machine for outcome in outcomes if not outcome.is_exact)
    if others:
        closeness = Closeness.of(plan.model.embedding.precision)
        then = {job.scored_on or "an unknown one" for job in plan.jobs} - others.keys()
        notes.append(
            f"{part_of(others.total(), len(outcomes), 'shard')} scored on another processor or "
            f"with other software ({listed(sorted(then))}; here {listed(sorted(others))}): scores "
            f"and heatmaps are compared within {100 * closeness.score:g} %, regions are not"
        )
    if outcomes and not any(outcome.rows for outcome in outcomes):
        notes.append("nothing was compared with results of today")
    if unsettled := sum(len(outcome.unsettled) for outcome in outcomes):
        notes.append(
            f"{counted(unsettled, 'image')} not compared: not to be reached then, as the run says, "
            "and to be read now"
        )
    if changed := sum(len(outcome.changed) for outcome in outcomes):
        notes.append(
            f"{counted(changed, 'image')} not compared: changed since, or not to be reached"
        )
    if more := sum(outcome.count - len(outcome.differences) for outcome in outcomes):
        notes.append(f"{counted(more, 'difference')} more, in the same shards")
    return notes
