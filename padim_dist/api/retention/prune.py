"""Prune: remove what is older than its term and not needed any more."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from padim_dist.api.retention.facts import KnownFacts
from padim_dist.api.retention.inventory import Inventory
from padim_dist.api.retention.policy import Item, Key, PruneLine, Terms, decide, summarise
from padim_dist.api.retention.removal import Removal
from padim_dist.api.retention.tombs import nights_of_runs
from padim_dist.api.settings.places import ConfigLike, as_config, logger, workspace_of
from padim_dist.config import Config, RetentionConfig
from padim_dist.errors import ConfigError, HeldError, RunError
from padim_dist.events import Listener, ignore
from padim_dist.store.lease import hold
from padim_dist.store.objects import list_objects
from padim_dist.store.workspace import Workspace

_A_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class PruneResult:
    """What a prune removed, or would remove.

    Attributes
    ----------
    dry_run : bool
        Whether nothing was removed.
    objects, bytes : int
        Objects that were removed (or would be), and their bytes.
    lines : list of PruneLine
        What goes and what stays, by kind and reason.
    notes : list of str
        What was not removed though its time is over, and why.
    """

    dry_run: bool
    objects: int
    bytes: int
    lines: list[PruneLine]
    notes: list[str] = field(default_factory=list)


def prune(config: ConfigLike, listener: Listener = ignore, *, dry_run: bool = False) -> PruneResult:
    """Remove what is older than its term (section ``retention``) and not needed any more.

    Promoted models, open nights, reviews and all that they need stay. Of a run that goes a
    tombstone keeps the counts. An interrupted prune is finished by the next.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    dry_run : bool, optional
        Only say what would go.

    Raises
    ------
    ConfigError
        If the section ``retention`` is missing.
    HeldError
        If another prune is at work.
    RunError
        If the storage does not remove something; all else is removed.
    DamagedFileError
        If a record is damaged: what it needs is not known, so nothing is removed.

    Examples
    --------
    >>> prune(config, dry_run=True).lines[0].what       # doctest: +SKIP
    'heatmaps'
    """
    config = as_config(config)
    if config.retention is None:
        raise ConfigError(
            "the configuration has no section 'retention', so nothing is removed; set e.g. "
            "'retention: {heatmaps: 30d}'"
        )
    workspace = workspace_of(config)
    with hold(workspace, workspace.pruned) as lease:
        # It was written a moment ago: its time is the time by the clock of the store. Ages by two
        # clocks, that of this machine and that of the store, would differ by their difference.
        files = list_objects(workspace.folder, workspace.pruned)
        now = max(one.modified for one in files if one.path == lease.file)
        return _prune(config, config.retention, workspace, lease.guard(listener), dry_run, now)


def prune_after_night(config: Config, work: Callable[[], object]) -> bool:
    """Prune at the end of a night, if the section ``retention`` is set.

    An error is a warning: the night is finished, and the next prune goes on.

    Parameters
    ----------
    config : Config
        The configuration.
    work : callable
        Does it.

    Returns
    -------
    bool
        Whether it did not fail.
    """
    if config.retention is None:
        return True
    try:
        work()
    except HeldError as error:
        logger.info("another prune is at work: %s", error)
    except Exception as error:  # of any storage client
        logger.warning("the workspace was not pruned: %s. The next night tries again", error)
        return False
    return True


def _prune(
    config: Config,
    retention: RetentionConfig,
    workspace: Workspace,
    listener: Listener,
    dry_run: bool,
    now: datetime,
) -> PruneResult:
    terms = _terms(retention)
    known = KnownFacts(workspace)
    window, young = config.fit.window or 0, now - retention.attempts
    verdicts = decide(Inventory(workspace, known, window, young).read(), terms, now)
    going = [verdict.item for verdict in verdicts if verdict.goes]
    if dry_run:
        return _result(True, going, summarise(verdicts))

    def wanted(held: Collection[str]) -> set[Key]:
        again = Inventory(workspace, known, window, young, frozenset(held))
        found = decide(again.read(), terms, now)
        return again.wanted(one.item for one in found if not one.goes)

    nights: dict[str, int] = {}
    if any(item.kind == "run" for item in going):
        term = (retention.runs or _A_WEEK) - _A_WEEK
        of = [one.item for one in verdicts if one.item.kind == "night"]
        nights = nights_of_runs(workspace, [one for one in of if now - one.modified > term])
    removal = Removal(workspace, listener, nights, wanted)
    removed = removal.remove(going)
    known.keep()
    if removal.failures:
        raise RunError(
            f"{len(removal.failures)} of {len(going)} could not be removed: "
            f"{'; '.join(removal.failures)}. The others are; make sure that the storage lets this "
            "user remove objects, and prune again"
        )
    return _result(False, removed, summarise(verdicts), removal.notes)


def _terms(retention: RetentionConfig) -> Terms:
    return {
        "run": retention.runs,
        "heatmaps": retention.heatmaps,
        "model": retention.models,
        "fit": retention.attempts,
        "moments": retention.moments,
        "manifest": retention.manifests,
        "changes": retention.manifests,
        "night": retention.runs,
        "attempt": retention.attempts,
    }


def _result(
    dry_run: bool, items: list[Item], lines: list[PruneLine], notes: list[str] | None = None
) -> PruneResult:
    objects, size = sum(len(item.objects) for item in items), sum(item.bytes for item in items)
    return PruneResult(dry_run, objects, size, lines, notes or [])
