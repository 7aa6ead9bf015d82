"""Nights: the scope and the summary of each audit of an archive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from padim_dist.store.numbered import add_numbered, read_last, read_numbered
from padim_dist.store.workspace import Settings, Workspace


@dataclass(frozen=True)
class Night:
    """The scope of a night, fixed when it is opened.

    Attributes
    ----------
    number : int
        Number, from 1.
    path : str
        Folder of its results in the workspace.
    first, last : int
        Entries of the archive's history that it covers; the first night covers all images.
    snapshots : list of str
        Ids of the manifests to score; none if no image came.
    model_id : str
        The model that was promoted at that time.
    opened_at, opened_by : str
        ISO 8601, UTC; user and machine.
    """

    number: int
    path: str
    first: int
    last: int
    snapshots: list[str]
    model_id: str
    opened_at: str
    opened_by: str


@dataclass(frozen=True)
class DriftNight:
    """The drift of a group in a night.

    Attributes
    ----------
    excess : float
        Squared distance of its mean embedding from the model's, minus the expected value.
    noise : float
        Standard deviation of the excess if nothing has changed.
    """

    excess: float
    noise: float


@dataclass(frozen=True)
class GroupNight:
    """A group in a night.

    Attributes
    ----------
    images, scored : int
        Rows, and rows with a score.
    median, highest : float or None
        Of the scores; None if there are none.
    flagged : int or None
        Flagged rows. This and the following are None if the model has no calibration.
    alpha : float or None
        Expected share of flagged images among normal ones.
    drift : DriftNight or None
        Drift of the group.
    """

    images: int
    scored: int
    median: float | None
    highest: float | None
    flagged: int | None = None
    alpha: float | None = None
    drift: DriftNight | None = None


@dataclass(frozen=True)
class NightSummary:
    """The summary of a night; ``summary.json``, written last, is its receipt.

    Attributes
    ----------
    number : int
        Number of the night.
    state : str
        ``"done"``, or ``"odd"`` if a person should look at it.
    reasons : list of str
        Why it is odd.
    day : str
        Date of its opening, UTC.
    model_id : str
        The model that scored.
    images : int
        Rows of its score tables.
    statuses : mapping of str to int
        Rows by status.
    groups : mapping of str to GroupNight
        Groups by name; images without a group are left out.
    top : list of mapping
        The most anomalous rows: uri, member, group, score, p_value, peak_y, peak_x, image_id,
        run_id.
    runs : list of str
        Ids of its runs.
    folder : str
        URL of the folder with ``summary.md``, ``summary.json`` and ``top.jpg``.
    picture : bool
        Whether there is a ``top.jpg``.
    opened_at, finished_at : str
        ISO 8601, UTC.
    """

    number: int
    state: str
    reasons: list[str]
    day: str
    model_id: str
    images: int
    statuses: dict[str, int]
    groups: dict[str, GroupNight]
    top: list[dict[str, Any]]
    runs: list[str]
    folder: str
    picture: bool
    opened_at: str
    finished_at: str


def last_night(workspace: Workspace, settings: Settings) -> Night | None:
    """Return the newest night of an archive; None before the first."""
    values = read_last(workspace, workspace.nights(settings))
    return Night(**values) if values else None


def add_night(workspace: Workspace, settings: Settings, night: Night) -> bool:
    """Open a night; False if another audit has already opened one of this number."""
    return add_numbered(workspace, workspace.nights(settings), night.number, asdict(night))


def find_summary(workspace: Workspace, night: Night) -> NightSummary | None:
    """Return the summary of a night; None if it is not finished."""
    return _summary(workspace.folder.find_json(_receipt(night)))


def put_summary(workspace: Workspace, night: Night, summary: NightSummary) -> None:
    """Write the summary of a night: it is then finished."""
    workspace.folder.put_json(_receipt(night), asdict(summary))


def summaries_before(
    workspace: Workspace, settings: Settings, number: int, most: int
) -> list[NightSummary]:
    """Return the summaries of at most `most` nights before a number, the newest last."""
    earlier = [
        Night(**values)
        for values in read_numbered(workspace, workspace.nights(settings), number - most - 1)
        if values["number"] < number
    ]
    found = (find_summary(workspace, night) for night in earlier)
    return [summary for summary in found if summary]


def _receipt(night: Night) -> str:
    return f"{night.path}/summary.json"


def _summary(values: dict[str, Any] | None) -> NightSummary | None:
    if values is None:
        return None
    groups = {name: _group(group) for name, group in values["groups"].items()}
    return NightSummary(**{**values, "groups": groups})


def _group(values: dict[str, Any]) -> GroupNight:
    drift = values["drift"]
    return GroupNight(**{**values, "drift": DriftNight(**drift) if drift else None})
