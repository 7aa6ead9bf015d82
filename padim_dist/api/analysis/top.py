"""Top: the most anomalous images of a run."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from padim_dist.api.settings.lookup import progress_note
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config, workspace_of
from padim_dist.api.settings.rules import Alpha
from padim_dist.api.sql.flags import MOST_ANOMALOUS
from padim_dist.api.sql.tables import image_name
from padim_dist.api.sql.views import run_views
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.pages.words import listed
from padim_dist.store.runs.run import Run


@dataclass(frozen=True)
class TopImage:
    """An image of a run.

    Attributes
    ----------
    image : str
        Path in the archive, and the name in the tar file if it is in one.
    score, peak_at : float, str
        Maximum of the anomaly map; its row and column, in pixels of the original image.
    p_value, p_extrapolated : float or None, bool or None
        None if the model has no calibration; whether the p-value is below the resolution of the
        calibration sample.
    flagged : bool or None
        None also if it is not known before the run is finished.
    verdict, kind : str or None
        The newest review of it: ``"ok"`` or ``"defect"``, and the kind of defect.
    group, label, image_id : str or None
        As in the score table.
    """

    image: str
    group: str | None
    label: str | None
    verdict: str | None
    kind: str | None
    score: float
    p_value: float | None
    p_extrapolated: bool | None
    flagged: bool | None
    peak_at: str
    image_id: str


@dataclass(frozen=True)
class TopResult:
    """Anomalies of a run, the strongest first; `notes` are remarks."""

    run_id: str
    scored: int
    flagged: int | None
    notes: list[str]
    anomalies: list[TopImage]


def top(
    config: ConfigLike,
    _listener: Listener = ignore,
    *,
    n: int = 20,
    run: str | None = None,
    group: str | None = None,
    flagged: bool = False,
    alpha: Alpha | None = None,
) -> TopResult:
    """List the strongest anomalies of a run: lowest p-value first, then highest score.

    Parameters
    ----------
    config : Config or path
        The configuration.
    n : int, optional
        Largest number of images.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.
    group : str, optional
        Only this group.
    flagged : bool, optional
        Only flagged images.
    alpha : float or "auto", optional
        Flags of this alpha, instead of those of the rule of the run.

    Raises
    ------
    RequestError
        If there is no such run or group, or `flagged` is set and the model has no calibration.

    Examples
    --------
    >>> top(config, n=1).anomalies[0].image        # doctest: +SKIP
    'bottle/test/broken_large/003.png'
    """
    if n < 1:
        raise RequestError(f"-n is the number of images to list: 1 or more; found {n}")
    config = as_config(config)
    head, connection = run_views(config, run, alpha)
    where, values = "status = 'scored'", []
    if group is not None:
        where, values = f'{where} AND "group" = ?', [group]
    ((scored, known, alarms, lowest, resolution),) = connection.execute(
        "SELECT count(*), count(flagged), count(*) FILTER (flagged), min(p_value), max(resolution) "
        f"FROM scores WHERE {where}",
        values,
    ).fetchall()
    if group is not None and not scored:
        _check_group(connection, head.run_id, group)
    notes = [*progress_note(head), *Run(workspace_of(config), head.run_id).pruned_notes()]
    if scored and not known:
        if flagged:
            raise RequestError(
                f"run {head.run_id} flags nothing: model {head.model_id} has no calibration. Leave "
                "out --flagged, or set fit.sample and run 'padim-dist fit' and 'padim-dist score'"
            )
        notes += [f"model {head.model_id} has no calibration: images are ordered by score"]
    elif scored and not alarms:
        rule = f" ({head.alarms.describe()})" if head.alarms else ""
        notes += [
            f"none of {scored:,} scored images is flagged{rule}: the lowest p-value is {lowest:.2g}"
        ]
    found = connection.execute(
        'SELECT uri, member, "group", label, verdict, kind, score, p_value, p_extrapolated, '
        "flagged, concat(peak_y, ', ', peak_x), image_id "
        f"FROM scores WHERE {where}{' AND flagged' if flagged else ''} "
        f"ORDER BY {MOST_ANOMALOUS} LIMIT {n}",
        values,
    ).fetchall()
    archive = archive_of(config).url
    anomalies = [TopImage(image_name(archive, uri, member), *row) for uri, member, *row in found]
    if any(image.p_extrapolated for image in anomalies):
        limit = f" below {resolution:.2g}" if resolution else ""
        notes += [
            f"p-values{limit} are extrapolated: the calibration sample (fit.sample) does not "
            "resolve them"
        ]
    return TopResult(head.run_id, scored, alarms if known else None, notes, anomalies)


def _check_group(connection: duckdb.DuckDBPyConnection, run_id: str, group: str) -> None:
    """Refuse a group that is not in the run."""
    groups = 'SELECT DISTINCT "group" FROM scores WHERE "group" IS NOT NULL ORDER BY 1'
    there = [name for (name,) in connection.execute(groups).fetchall()]
    if group not in there:
        raise RequestError(
            f"run {run_id} has no group {group!r}; it has {listed(there, 20) or 'none'}"
        )
