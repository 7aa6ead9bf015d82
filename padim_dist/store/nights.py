"""Nights: the scope and the summary of each audit of an archive."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from functools import partial

from padim_dist.core.align.motion import Motion
from padim_dist.core.batches import Batch
from padim_dist.core.status import SCORED
from padim_dist.redaction import redacted
from padim_dist.store.numbered import add_numbered, read_last, read_numbered
from padim_dist.store.records import find_record, unless_damaged
from padim_dist.store.runs.rows import ScoreRow
from padim_dist.store.workspace import Settings, Workspace

_ADVICE = (
    "Restore it from a copy of the workspace. If it is the last night, you can remove it and the "
    "folder of its results: the next audit then opens it again, with all images since the night "
    "before"
)
_THREADS = 16
_OTHERWISE = "the night counts as not finished"


@dataclass(frozen=True)
class Night:
    """The scope of a night, fixed when it is opened.

    Attributes
    ----------
    number, path : int, str
        Number, from 1; folder of its results in the workspace.
    first, last : int
        Entries of the archive's history that it covers; the first night covers all images.
    snapshots, model_id : list of str, str
        Ids of the manifests to score, none if no image came; the model that was promoted then.
    opened_at, opened_by : str
        ISO 8601, UTC; user and machine.
    retried : int
        Images in the last of the manifests that are not new: the night before did not settle them.
    turn, turn_before : int or None
        Newest turn of the runs at its opening, and at that of the night before; None if not known.
    """

    number: int
    path: str
    first: int
    last: int
    snapshots: list[str]
    model_id: str
    opened_at: str
    opened_by: str
    retried: int = 0
    turn: int | None = None
    turn_before: int | None = None


@dataclass(frozen=True)
class DriftNight:
    """The drift of a group in a night.

    `excess` is the squared distance of its mean embedding from the model's, minus the expected
    value; `noise` is the standard deviation of this excess if nothing has changed. `changed` says
    whether the group differs significantly from the model; None in files of earlier versions.
    """

    excess: float
    noise: float
    changed: bool | None = None


@dataclass(frozen=True)
class GroupNight:
    """A group in a night.

    Attributes
    ----------
    images, scored : int
        Rows, and rows with a score.
    median, highest : float or None
        Of the scores; None if there are none.
    flagged, alpha, drift
        Flagged rows, share of normal images that is flagged, drift; None without calibration.
    drift_unknown, moved, unaligned : str or None, Motion or None, str or None
        Why there is no drift; how far its camera has moved; that images cannot be aligned any more.
    """

    images: int
    scored: int
    median: float | None
    highest: float | None
    flagged: int | None = None
    alpha: float | None = None
    drift: DriftNight | None = None
    drift_unknown: str | None = None
    moved: Motion | None = None
    unaligned: str | None = None


@dataclass(frozen=True)
class NightImage:
    """One of the most anomalous images of a night: columns of its row of the score table."""

    uri: str
    member: str | None
    group: str | None
    label: str | None
    score: float
    p_value: float | None
    flagged: bool | None
    peak_y: int
    peak_x: int
    image_id: str
    run_id: str

    @classmethod
    def of(cls, row: ScoreRow) -> NightImage:
        """Return the columns of a row of the score table."""
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class Notice:
    """A message to one service.

    Attributes
    ----------
    service : str
        Scheme and host of its address; empty if there is no service to tell.
    error : str or None
        Why it was not sent; None if it was.
    """

    service: str
    error: str | None = None

    def describe(self) -> str:
        """Return the service, or who is not told and why."""
        if self.error is None:
            return self.service
        return f"{f'{self.service} is not' if self.service else 'nobody is'} told: {self.error}"


@dataclass(frozen=True)
class NightSummary:
    """The summary of a night; ``summary.json``, written last, is its receipt.

    Attributes
    ----------
    number, day : int, str
        Number of the night, and the date of its opening, UTC.
    state, reasons : str, list of str
        ``"done"``, or ``"odd"`` if a person should look at it, and why.
    model_id, runs : str, list of str
        Ids of the model that scored, and of its runs.
    images, statuses : int, mapping of str to int
        Rows of its score tables, and rows by status.
    retried, unsettled : int
        Rows of images that the night before did not settle, and rows that this night does not
        settle: the next one tries them again.
    groups : mapping of str to GroupNight
        Groups by name; images without a group are left out.
    top : list of NightImage
        The most anomalous images, the worst first.
    folder, picture : str, bool
        URL of the folder with ``summary.md`` and ``summary.json``; whether ``top.jpg`` is there.
    opened_at, finished_at : str
        ISO 8601, UTC.
    archive : str
        Name of the archive; empty in summaries of earlier versions.
    drift, past : str
        A sentence each: whether the images differ from those of the model, and what the night was
        compared with. Empty in summaries of earlier versions.
    notices : list of Notice
        Whom it was sent to.
    batch : Batch or None
        What later nights need of it if they share a largest share of false alarms.
    """

    number: int
    state: str
    reasons: list[str]
    day: str
    model_id: str
    images: int
    statuses: dict[str, int]
    groups: dict[str, GroupNight]
    top: list[NightImage]
    runs: list[str]
    folder: str
    picture: bool
    opened_at: str
    finished_at: str
    retried: int = 0
    unsettled: int = 0
    archive: str = ""
    drift: str = ""
    past: str = ""
    notices: list[Notice] = field(default_factory=list)
    batch: Batch | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", redacted(self.folder))

    @property
    def title(self) -> str:
        """Title that people know the night by."""
        return night_title(self.number, self.day, self.archive)

    @property
    def headline(self) -> str:
        """Title with the result, e.g. ``"Night 2, 26 November, photos: 5 flagged, odd"``."""
        flagged = [] if self.flagged is None else [f"{self.flagged or 'none'} flagged"]
        found = [*flagged, *(["odd"] if self.state == "odd" else [])]
        return f"{self.title}: {', '.join(found) or self.state}"

    @property
    def flagged(self) -> int | None:
        """Flagged rows; None if no row has a p-value."""
        counts = [group.flagged for group in self.groups.values() if group.flagged is not None]
        return sum(counts) if counts else None

    @property
    def flagged_groups(self) -> dict[str, int]:
        """Flagged rows of the groups that have any, most first."""
        counts = {name: group.flagged for name, group in self.groups.items() if group.flagged}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def unusable(self) -> int:
        """Rows without a score."""
        return self.images - self.statuses.get(SCORED, 0)


def night_title(number: int, day: str, archive: str = "") -> str:
    """Return the title of a night, given its day (ISO 8601, UTC) and its archive's name.

    Examples
    --------
    >>> night_title(2, "2026-11-26", "photos")
    'Night 2, 26 November, photos'
    """
    when = date.fromisoformat(day)
    return ", ".join(filter(None, (f"Night {number}", f"{when.day} {when:%B}", archive)))


def last_night(workspace: Workspace, settings: Settings) -> Night | None:
    """Return the newest night of an archive; None before the first."""
    return read_last(workspace, workspace.nights(settings), Night, _ADVICE)


def newest_night(workspace: Workspace, archive: str) -> Night | None:
    """Return the newest night of an archive, given the name of its folder."""
    return read_last(workspace, f"{workspace.all_nights}/{archive}", Night, _ADVICE)


def add_night(workspace: Workspace, settings: Settings, night: Night) -> bool:
    """Open a night; False if another audit has already opened one of this number."""
    return add_numbered(workspace, workspace.nights(settings), night)


def find_summary(workspace: Workspace, path: str) -> NightSummary | None:
    """Return the summary of the night in a folder; None if it is not finished.

    A damaged summary is none: the night's scores are kept, and its audit writes it again.
    """
    file = f"{path}/summary.json"
    return unless_damaged(lambda: find_record(workspace.folder, file, NightSummary), _OTHERWISE)


def put_summary(workspace: Workspace, night: Night, summary: NightSummary) -> None:
    """Write the summary of a night: it is then finished."""
    workspace.folder.put_json(f"{night.path}/summary.json", asdict(summary))


def summaries_before(
    workspace: Workspace, settings: Settings, number: int, most: int
) -> list[NightSummary]:
    """Return the summaries of at most `most` nights before a number, the newest last."""
    numbers = range(max(number - most, 1), number)
    paths = [workspace.night(settings, earlier) for earlier in numbers]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(partial(find_summary, workspace), paths)
        return [summary for summary in found if summary]


def read_nights(
    workspace: Workspace, settings: Settings
) -> list[tuple[Night, NightSummary | None]]:
    """Return the nights of an archive in order, each with its summary if it is finished.

    Damaged ones are left out, with a warning.
    """
    nights = read_numbered(workspace, workspace.nights(settings), Night, all_of_them=False)
    with ThreadPoolExecutor(_THREADS) as pool:
        summaries = pool.map(lambda night: find_summary(workspace, night.path), nights)
        return list(zip(nights, summaries, strict=True))
