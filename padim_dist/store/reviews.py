"""Reviews: what people say about images. Append-only, a numbered file for each call of ``label``.

A review is about the object that the reviewer saw: an image and its etag. The newest review of an
object counts, and all are kept. Those of other objects at the same path neither count nor hide it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from padim_dist.store.image_objects import ImageObject
from padim_dist.store.numbered import append_numbered, read_numbered
from padim_dist.store.workspace import Workspace

VerdictName = Literal["ok", "defect"]
OK: VerdictName = "ok"
DEFECT: VerdictName = "defect"


@dataclass(frozen=True, kw_only=True)
class Review:
    """What one person says about one image.

    Attributes
    ----------
    image_id : str
        Id of the image.
    verdict : str
        ``"ok"``: a normal image; ``"defect"``: it shows a defect.
    kind : str or None
        Kind of defect, in the reviewer's words.
    note : str
        Any text.
    uri, member, etag : str or None
        Address and tag of the object that was reviewed, as its row has them.
    """

    image_id: str
    verdict: VerdictName
    kind: str | None = None
    note: str = ""
    uri: str | None = None
    member: str | None = None
    etag: str | None = None

    @property
    def about(self) -> ImageObject:
        """The object that was reviewed."""
        return ImageObject(self.image_id, self.etag)


@dataclass(frozen=True)
class ReviewBatch:
    """The reviews of one call: a file of ``reviews/``.

    Attributes
    ----------
    number : int
        Number of the file, from 1: the order of reviews.
    who, at : str
        The reviewer; when it was written, for people (ISO 8601, UTC).
    run_id : str or None
        The run that the reviewer looked at, if that is known.
    reviews : sequence of Review
        In the order of the call. If an object is there twice, its last review counts.
    """

    number: int
    who: str
    at: str
    run_id: str | None
    reviews: Sequence[Review]


@dataclass(frozen=True, kw_only=True)
class Verdict(Review):
    """The newest review of an object, with the number, reviewer and time of its batch."""

    number: int
    who: str
    at: str


def read_reviews(workspace: Workspace) -> list[ReviewBatch]:
    """Read all reviews, the oldest first; damaged files are left out, with a warning."""
    return read_numbered(workspace, workspace.reviews, ReviewBatch, all_of_them=False)


def newest_verdicts(workspace: Workspace) -> dict[ImageObject, Verdict]:
    """Return the newest review of each reviewed object."""
    return verdicts_of(read_reviews(workspace))


def verdicts_of(batches: Iterable[ReviewBatch]) -> dict[ImageObject, Verdict]:
    """Return the newest review of each object in batches (the oldest first)."""
    return {
        review.about: Verdict(**vars(review), number=batch.number, who=batch.who, at=batch.at)
        for batch in batches
        for review in batch.reviews
    }


def add_reviews(
    workspace: Workspace, who: str, at: str, run_id: str | None, reviews: Sequence[Review]
) -> ReviewBatch:
    """Write reviews as the newest batch; of two at once, each gets a number of its own."""
    return append_numbered(
        workspace,
        workspace.reviews,
        lambda number: ReviewBatch(number, who, at, run_id, reviews),
    )
