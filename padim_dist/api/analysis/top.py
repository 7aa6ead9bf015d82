"""Top: the most anomalous images of a run."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from padim_dist.api.analysis.tables import MOST_ANOMALOUS, image_name
from padim_dist.api.analysis.views import run_views
from padim_dist.api.settings.lookup import choose_run, progress_note
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config, workspace_of
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore


@dataclass(frozen=True)
class TopImage:
    """An image of a run.

    Attributes
    ----------
    image : str
        Path in the archive, and the name in the tar file if it is in one.
    group, label : str or None
        As in the score table.
    score : float
        Maximum of the anomaly map.
    p_value : float or None
        None if the model has no calibration.
    p_extrapolated : bool or None
        Whether the p-value is below the resolution of the calibration sample.
    flagged : bool or None
        None also if it is not known before the run is finished.
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
        _check_group(connection, head.run_id, group)
    notes = progress_note(head)
    if scored and not judged:
        if flagged:
            raise RequestError(
                f"run {head.run_id} flags nothing: model {head.model_id} has no calibration. Leave "
                "out --flagged, or set fit.sample and run 'padim-dist fit' and 'padim-dist score'"
            )
        notes += [f"model {head.model_id} has no calibration: images are ordered by score"]
    elif scored and not alarms:
        cutoff = head.known_cutoff
        notes += [
            f"none of {scored:,} scored images is flagged: the lowest p-value is {lowest:.2g}"
            + (f"; flagged: p <= {cutoff:.2g}" if cutoff else "")
        ]
    found = connection.execute(
        'SELECT uri, member, "group", label, score, p_value, p_extrapolated, flagged, '
        "concat(peak_y, ', ', peak_x), image_id "
        f"FROM scores WHERE {where}{' AND flagged' if flagged else ''} "
        f"ORDER BY {MOST_ANOMALOUS} LIMIT {n}",
        values,
    ).fetchall()
    archive = archive_of(config).url
    anomalies = [TopImage(image_name(archive, uri, member), *row) for uri, member, *row in found]
    beyond = [a.p_value for a in anomalies if a.p_extrapolated and a.p_value is not None]
    if beyond:
        notes += [
            f"p-values of {max(beyond):.2g} and less are extrapolated: below the resolution "
            "of the calibration sample (fit.sample)"
        ]
    return TopResult(
        run_id=head.run_id,
        scored=scored,
        flagged=alarms if judged else None,
        notes=notes,
        anomalies=anomalies,
    )


def _check_group(connection: duckdb.DuckDBPyConnection, run_id: str, group: str) -> None:
    """Refuse a group that is not in the run."""
    rows = connection.execute(
        'SELECT DISTINCT "group" FROM scores WHERE "group" IS NOT NULL ORDER BY 1'
    ).fetchall()
    there = [name for (name,) in rows]
    if group not in there:
        more = f" and {len(there) - 20} more" if len(there) > 20 else ""
        raise RequestError(
            f"run {run_id} has no group {group!r}; it has {', '.join(there[:20]) or 'none'}{more}"
        )
