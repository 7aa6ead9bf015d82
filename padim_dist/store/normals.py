"""The normal images behind a model: a Parquet table for each group, the only owner of these files.

A row for each image that was fitted, and for each that was dropped as a suspect. Models of version
0.3 and earlier have no such tables.

The images that fits of an archive forget are an append-only list beside the models.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.errors import DamagedFileError
from padim_dist.store.image_objects import ImageObject
from padim_dist.store.models import ModelInfo, model_advice
from padim_dist.store.numbered import append_numbered, read_numbered
from padim_dist.store.parquet import find_damaged, open_parquet
from padim_dist.store.records import find_receipt
from padim_dist.store.workspace import Settings, Workspace

NORMALS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("model_id", "group", "image_id")),
        *((name, pa.string()) for name in ("uri", "member", "etag")),
        *((name, pa.float64()) for name in ("score", "p_value")),
        *((name, pa.bool_()) for name in ("suspect", "dropped")),
        ("threshold", pa.float64()),
        ("round", pa.int32()),
    ]
)
"""`docs/formats.md` describes the columns."""
_WORST = 3
_FORGET_ADVICE = (
    "Restore it from a copy of the workspace, or remove it: what it says is then lost, so run "
    "'padim-dist forget' again for its images"
)
_ROWS = 2**16
"""Rows of a row group: no more are in memory at a time as text."""


@dataclass(frozen=True)
class Dropped:
    """A normal image that was dropped as a suspect.

    Attributes
    ----------
    manifest, image_id : str
        The manifest of its row, and its id.
    score, p_value, threshold : float
        What all others said of it, and the score above which images were dropped.
    round : int
        Number of the round, from 1.
    """

    manifest: str
    image_id: str
    score: float
    p_value: float
    threshold: float
    round: int


@dataclass(frozen=True)
class Suspect:
    """A suspect, for a message: where it is, and its leave-one-out score."""

    uri: str
    member: str | None
    score: float


@dataclass(frozen=True)
class GroupReceipt:
    """The receipt of a group's calibration.

    Attributes
    ----------
    images : int
        Images with a leave-one-out score.
    suspects, dropped : int
        Fitted images that are suspects; images that were dropped.
    median : float or None
        Median of the scores.
    worst : sequence of Suspect
        The suspects with the highest scores.
    state : str or None
        State of the model's parts; versions before 0.5 wrote none.
    """

    images: int
    suspects: int = 0
    dropped: int = 0
    median: float | None = None
    worst: Sequence[Suspect] = ()
    state: str | None = None

    def is_of(self, state: str) -> bool:
        """Whether it was written for a state of the model's parts, or nobody knows for which."""
        return self.state in (None, state)

    @classmethod
    def of(cls, rows: pa.Table, state: str) -> GroupReceipt:
        """Return the receipt of a group's table, made from a state of the model's parts."""
        fitted = rows.filter(pc.invert(rows["dropped"]))
        scores = fitted["score"].drop_null().to_numpy()
        suspects = fitted.filter(fitted["suspect"]).sort_by([("score", "descending")])
        worst = suspects.slice(0, _WORST).select(["uri", "member", "score"]).to_pylist()
        return cls(
            images=len(scores),
            suspects=len(suspects),
            dropped=len(rows) - len(fitted),
            median=float(np.median(scores)) if len(scores) else None,
            worst=[Suspect(**values) for values in worst],
            state=state,
        )


def find_group_receipt(workspace: Workspace, model_id: str, group: str) -> GroupReceipt | None:
    """Return the receipt of a group's calibration; None if it is not calibrated with a table yet.

    A version that wrote no table may have been at work before.
    """
    if not workspace.folder.exists(workspace.normals(model_id, group)):
        return None
    return find_receipt(workspace.folder, workspace.calibrated(model_id, group), GroupReceipt)


@dataclass(frozen=True)
class Forgetting:
    """An entry of the list of forgotten images.

    Attributes
    ----------
    number : int
        Number, from 1.
    images : sequence of ImageObject
        Images that fits leave out from now on; if `undo` is set, that they may use again.
    note, by, at : str
        The reason; user and machine; ISO 8601, UTC.
    """

    number: int
    images: Sequence[ImageObject]
    undo: bool
    note: str
    by: str
    at: str


def read_forgettings(workspace: Workspace, settings: Settings) -> list[Forgetting]:
    """Read the list of an archive's forgotten images, the oldest entry first."""
    path = workspace.forgotten(settings)
    return read_numbered(workspace, path, Forgetting, advice=_FORGET_ADVICE)


def add_forgetting(
    workspace: Workspace, settings: Settings, make: Callable[[int], Forgetting]
) -> None:
    """Add the entry that `make` returns for the next number of the list."""
    append_numbered(workspace, workspace.forgotten(settings), make)


def forgotten_images(entries: Iterable[Forgetting]) -> set[ImageObject]:
    """Return the images that are forgotten after all entries of a list.

    Examples
    --------
    >>> a, b = ImageObject("a", "1"), ImageObject("b", None)
    >>> first = Forgetting(1, [a, b], False, "", "", "")
    >>> forgotten_images([first, Forgetting(2, [a], True, "", "", "")])
    {ImageObject(image_id='b', etag=None)}
    """
    forgotten: set[ImageObject] = set()
    for entry in entries:
        if entry.undo:
            forgotten.difference_update(entry.images)
        else:
            forgotten.update(entry.images)
    return forgotten


def write_normals(workspace: Workspace, model_id: str, group: str, rows: pa.Table) -> None:
    """Write the table of a group over what a killed task has left: the highest scores first."""
    order = [("score", "descending"), ("uri", "ascending"), ("member", "ascending")]
    sink = io.BytesIO()
    pq.write_table(
        rows.sort_by(order),  # nulls come last
        sink,
        compression="zstd",
        row_group_size=_ROWS,
        write_page_checksum=True,
    )
    workspace.folder.put(workspace.normals(model_id, group), sink.getvalue())


def read_normals(
    workspace: Workspace, model_id: str, group: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read the table of a group: some columns, or all.

    Raises
    ------
    DamagedFileError
        If it is damaged: a checksum does not match.
    FileNotFoundError
        If there is none.
    """
    path, advice = workspace.normals(model_id, group), model_advice(workspace, model_id)
    with open_parquet(workspace.folder, path, advice) as parquet:
        return parquet.read(columns)


def normals_files(workspace: Workspace, models: Iterable[ModelInfo]) -> list[str]:
    """Return the URLs of the tables of all groups of some models, if they have any."""
    return [
        workspace.at(workspace.normals(info.model_id, group))
        for info in models
        if info.suspects is not None
        for group in info.counts
    ]


def find_damaged_normals(workspace: Workspace, files: Sequence[str]) -> list[DamagedFileError]:
    """Return which of some tables, by their URLs, are damaged or missing."""
    below = f"{workspace.at('')}".rstrip("/") + "/"
    return find_damaged(workspace.folder, [file.removeprefix(below) for file in files], "")


@dataclass(frozen=True)
class Members:
    """The images that a group's Gaussian was fitted on, 16 bytes an image.

    Attributes
    ----------
    keys : array
        Digests of image_id and etag, uint64, sorted, shape (n,).
    scores : array
        Their leave-one-out scores, float64, shape (n,); NaN for images without one.
    """

    keys: npt.NDArray[np.uint64]
    scores: npt.NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of images n."""
        return len(self.keys)

    def find(
        self, image_ids: Sequence[str], etags: Sequence[str | None]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Return which images are in the model, and their leave-one-out scores or NaN.

        An image whose etag is another one than that of the fitted image is another image.
        """
        keys = _keys(image_ids, etags)
        if not self.count:
            return np.zeros(len(keys), bool), np.full(len(keys), np.nan)
        places = np.minimum(np.searchsorted(self.keys, keys), self.count - 1)
        found = self.keys[places] == keys
        return found, np.where(found, self.scores[places], np.nan)


def read_members(workspace: Workspace, model_id: str, group: str) -> Members:
    """Read the images that a group's Gaussian was fitted on; raises as `read_normals`."""
    path, advice = workspace.normals(model_id, group), model_advice(workspace, model_id)
    keys, scores = [np.empty(0, np.uint64)], [np.empty(0)]
    names = ["image_id", "etag", "score", "dropped"]
    with open_parquet(workspace.folder, path, advice) as parquet:
        for number in range(parquet.num_row_groups):
            rows = parquet.read_row_group(number, names)
            rows = rows.filter(pc.invert(rows["dropped"]))
            keys.append(_keys(rows["image_id"].to_pylist(), rows["etag"].to_pylist()))
            scores.append(rows["score"].to_numpy().astype(np.float64))
    all_keys = np.concatenate(keys)
    order = np.argsort(all_keys)
    return Members(all_keys[order], np.concatenate(scores)[order])


def _keys(image_ids: Sequence[str], etags: Sequence[str | None]) -> npt.NDArray[np.uint64]:
    """Return 64 bits for each image: two of a million are alike by chance once in 40 million."""
    digests = [
        blake2b(f"{image_id} {etag or ''}".encode(), digest_size=8).digest()
        for image_id, etag in zip(image_ids, etags, strict=True)
    ]
    return np.frombuffer(b"".join(digests), np.uint64)
