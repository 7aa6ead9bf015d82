"""Top: the images of a run that look least like the normal ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from padim_dist.api.analysis.tables import MOST_ANOMALOUS, choose_run, open_connection, progress_of
from padim_dist.api.analysis.views import add_views
from padim_dist.api.settings.places import archive_of, workspace_of
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class Anomaly:
    """An image of a run.

    Attributes
    ----------
    image : str
        Path in the archive, and the name in the tar file where it is in one.
    group, label : str or None
        As in the score table.
    score : float
        Maximum of the anomaly map.
    p_value : float or None
        None where the model has no calibration.
    p_extrapolated : bool or None
        Whether it lies beyond what the normal images kept can tell.
    flagged : bool or None
        Likewise, or where that is not known before the run is finished.
    peak_at : str
        Row and column of the maximum, in pixels of the original image.
    image_id : str
        For ``padim-dist show``.
    """

    image: str
    group: str | None
    label: str | None
    score: float
    p_value: float | None
    p_extrapolated: bool | None
    flagged: bool | None
    peak_at: str
    image_id: str


@dataclass(frozen=True)
class TopResult:
    """Anomalies of a run, the strongest first; `notes` say what to know about them."""

    run_id: str
    scored: int
    flagged: int | None
    notes: list[str]
    anomalies: list[Anomaly]


def top(
    config: Config,
    _listener: Listener = ignore,
    *,
    n: int = 20,
    run: str | None = None,
    group: str | None = None,
    flagged: bool = False,
) -> TopResult:
    """List the strongest anomalies of a run: lowest p-value first, then highest score.

    Parameters
    ----------
    config : Config
        The configuration.
    n : int, optional
        How many.
    run : str, optional
        Id of the run, or its beginning; by default the newest.
    group : str, optional
        Of this group alone.
    flagged : bool, optional
        Flagged ones alone.

    Raises
    ------
    RequestError
        If there is no such run or group, or the run flags nothing as its model has no
        calibration.

    Examples
    --------
    >>> top(config, n=1).anomalies[0].image        # doctest: +SKIP
    'bottle/test/broken_large/003.png'
    """
    if n < 1:
        raise RequestError(f"-n {n}: ask for one image at least")
    workspace = workspace_of(config)
    head = choose_run(workspace, run)
    connection = run_views(workspace, head)
    where, values = "status = 'scored'", []
    if group is not None:
        where, values = f'{where} AND "group" = ?', [group]
    row = connection.execute(
        "SELECT count(*), count(p_value), count(*) FILTER (flagged), min(p_value) "
        f"FROM scores WHERE {where}",
        values,
    ).fetchone()
    assert row is not None
    scored, judged, alarms, lowest = row
    if group is not None and not scored:
        _check_group(connection, head["run_id"], group)
    notes = [progress_of(head)]
    if scored and not judged:
        if flagged:
            raise RequestError(
                f"run {head['run_id']} flags nothing: model {head['model_id']} has no calibration. "
                "Leave out --flagged, or fit with fit.sample and score again"
            )
        notes += [f"model {head['model_id']} has no calibration: the order is by score alone"]
    elif scored and not alarms:
        alpha = (head.get("alarms") or {}).get("alpha")
        notes += [
            f"none of {scored:,} scored images is flagged: the lowest p-value is {lowest:.2g}"
            + ("" if alpha is None else f", flagged is what has {alpha:.2g} at most")
        ]
    found = connection.execute(
        'SELECT uri, member, "group", label, score, p_value, p_extrapolated, flagged, '
        "peak_y, peak_x, image_id "
        f"FROM scores WHERE {where}{' AND flagged' if flagged else ''} "
        f"ORDER BY {MOST_ANOMALOUS} LIMIT {n}",
        values,
    ).fetchall()
    anomalies = [anomaly(config, *row) for row in found]
    beyond = [a.p_value for a in anomalies if a.p_extrapolated and a.p_value is not None]
    if beyond:
        notes += [
            f"p-values of {max(beyond):.2g} and less are extrapolated: beyond what the normal "
            "images kept (fit.sample) can tell"
        ]
    return TopResult(
        run_id=head["run_id"],
        scored=scored,
        flagged=alarms if judged else None,
        notes=[note for note in notes if note],
        anomalies=anomalies,
    )


def run_views(workspace: Workspace, head: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """A database with the views ``scores`` and ``regions`` of one run."""
    connection = open_connection(workspace.folder)
    add_views(connection, workspace, [head])
    return connection


def anomaly(
    config: Config,
    uri: str,
    member: str | None,
    group: str | None,
    label: str | None,
    score: float,
    p_value: float | None,
    p_extrapolated: bool | None,
    flagged: bool | None,
    peak_y: int,
    peak_x: int,
    image_id: str,
) -> Anomaly:
    """An anomaly, from a row of the score table."""
    name = image_name(config, uri, member)
    peak = f"{peak_y}, {peak_x}"
    return Anomaly(name, group, label, score, p_value, p_extrapolated, flagged, peak, image_id)


def image_name(config: Config, uri: str, member: str | None) -> str:
    """Path of an image in its archive, and its name in the tar file."""
    name = uri.removeprefix(f"{archive_of(config).url}/")
    return f"{name} {member}" if member else name


def _check_group(connection: duckdb.DuckDBPyConnection, run_id: str, group: str) -> None:
    """Refuse a group of which the run has no image at all."""
    rows = connection.execute(
        'SELECT DISTINCT "group" FROM scores WHERE "group" IS NOT NULL ORDER BY 1'
    ).fetchall()
    there = [name for (name,) in rows]
    if group not in there:
        more = f" and {len(there) - 20} more" if len(there) > 20 else ""
        raise RequestError(
            f"run {run_id} has no group {group!r}; it has {', '.join(there[:20]) or 'none'}{more}"
        )
