"""Values of the images in the report: cards of the gallery, and suspects of the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from padim_dist.core.status import GOOD
from padim_dist.redaction import redacted
from padim_dist.store.reviews import DEFECT, OK, Verdict, VerdictName
from padim_dist.store.runs.rows import RegionRow, ScoreRow


@dataclass(frozen=True)
class GalleryImage:
    """An image of the gallery.

    Attributes
    ----------
    row : ScoreRow
        Its row of the score table; it has a score.
    map_box : (int, int, int, int)
        Top, left, bottom and right of the area that the trunk sees, in pixels of the original.
    path : str
        Path in the archive, with the member of a tar file.
    regions : sequence of RegionRow
        Anomalous regions, the most anomalous first.
    picture, heat, mask : bytes or None
        WebP: the whole original; the heatmap and the ground truth over `map_box`.
    gone : str or None
        Why there is no picture.
    review : Verdict or None
        The newest verdict of a person.
    levels : mapping of str to float, optional
        Share of each level of the embedding in the score.
    """

    row: ScoreRow
    map_box: tuple[int, int, int, int]
    path: str
    regions: Sequence[RegionRow] = ()
    picture: bytes | None = None
    heat: bytes | None = None
    mask: bytes | None = None
    gone: str | None = None
    review: Verdict | None = None
    levels: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        """File name: the last part of the path."""
        return split_path(self.path)[1]

    @property
    def folder(self) -> str:
        """Path before the file name."""
        return split_path(self.path)[0]

    @property
    def truth(self) -> VerdictName | None:
        """Verdict of a person, else what the label of the archive says; None without both."""
        if self.review:
            return self.review.verdict
        if self.row.label is None:
            return None
        return OK if self.row.label == GOOD else DEFECT

    @property
    def is_cropped(self) -> bool:
        """Whether the trunk sees only a part of the image."""
        return self.map_box != (0, 0, self.row.height, self.row.width)


@dataclass(frozen=True)
class Suspect:
    """A normal image of the fit that all others find anomalous.

    Attributes
    ----------
    image_id, group, path : str
        Id, group, and path in the archive.
    score, p_value : float, float or None
        As if the model did not have the image.
    dropped : bool
        Whether the model was fitted without it.
    picture : bytes or None
        WebP of the original.
    """

    image_id: str
    group: str
    path: str
    score: float
    p_value: float | None
    dropped: bool
    picture: bytes | None = None

    @property
    def name(self) -> str:
        """File name: the last part of the path."""
        return split_path(self.path)[1]

    @property
    def folder(self) -> str:
        """Path before the file name."""
        return split_path(self.path)[0]


@dataclass(frozen=True)
class Still:
    """A frame of an event: its second in the film, and a small picture as WebP."""

    second: float
    picture: bytes


@dataclass(frozen=True)
class Event:
    """Flagged frames of a film that follow each other.

    Attributes
    ----------
    image_id, group, path : str
        Id of the frame with the highest score, group, and path of the film in the archive.
    starts, ends, peak : float
        Seconds in the film: the first and last flagged frame, and that with the highest score.
    score, p_value : float, float or None
        The highest score and the lowest p-value.
    frames : int
        Number of flagged frames.
    stills : sequence of Still
        Some of them, in the order of time.
    """

    image_id: str
    group: str
    path: str
    starts: float
    ends: float
    peak: float
    score: float
    p_value: float | None
    frames: int
    stills: Sequence[Still] = ()

    @property
    def name(self) -> str:
        """File name of the film."""
        return split_path(self.path)[1]

    @property
    def folder(self) -> str:
        """Path before the file name."""
        return split_path(self.path)[0]


def split_path(path: str) -> tuple[str, str]:
    """Return the folder of a path, with its last slash, and the name.

    Examples
    --------
    >>> split_path("cam-1/12/img3.jpg"), split_path("img3.jpg")
    (('cam-1/12/', 'img3.jpg'), ('', 'img3.jpg'))
    """
    folder, slash, name = redacted(path).rstrip("/").rpartition("/")
    return folder + slash, name
