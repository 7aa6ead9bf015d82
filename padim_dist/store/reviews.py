"""Reviews: what people say about images. Append-only, a numbered file for each call of ``label``.

The newest review of an image counts, and all are kept. A review is about the object that the
reviewer saw: where an image has another etag now, the review does not count for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from padim_dist.store.numbered import add_numbered, list_numbers, read_numbered
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
        Address and tag of the object that was reviewed, as far as they are known.
    """

    image_id: str
    verdict: VerdictName
    kind: str | None = None
    note: str = ""
    uri: str | None = None
    member: str | None = None
    etag: str | None = None


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
        In the order of the call. If an image is there twice, its last review counts.
    """

    number: int
    who: str
    at: str
    run_id: str | None
    reviews: Sequence[Review]


@dataclass(frozen=True, kw_only=True)
class Verdict(Review):
    """The newest review of an image, with the number, reviewer and time of its batch."""

    number: int
    who: str
    at: str

    def is_about(self, etag: str | None) -> bool:
        """Return whether it is about an object with this tag; an unknown tag may be any.

        Examples
        --------
        >>> verdict = Verdict(image_id="3f", verdict="ok", etag="1", number=1, who="ann", at="")
        >>> verdict.is_about("1"), verdict.is_about(None), verdict.is_about("2")
        (True, True, False)
        """
        return None in (etag, self.etag) or etag == self.etag


def read_reviews(workspace: Workspace) -> list[ReviewBatch]:
    """Read all reviews, the oldest first; damaged files are left out, with a warning."""
    return read_numbered(workspace, workspace.reviews, ReviewBatch, all_of_them=False)


def newest_verdicts(workspace: Workspace) -> dict[str, Verdict]:
    """Return the newest review of each reviewed image, by image_id."""
    return verdicts_of(read_reviews(workspace))


def verdicts_of(batches: Iterable[ReviewBatch]) -> dict[str, Verdict]:
    """Return the newest review of each image in batches (the oldest first), by image_id."""
    return {
        review.image_id: Verdict(**vars(review), number=batch.number, who=batch.who, at=batch.at)
        for batch in batches
        for review in batch.reviews
    }


def add_reviews(
    workspace: Workspace, who: str, at: str, run_id: str | None, reviews: Sequence[Review]
) -> ReviewBatch:
    """Write reviews as the newest batch; of two at once, each gets a number of its own."""
    while True:
        number = max(list_numbers(workspace, workspace.reviews), default=0) + 1
        batch = ReviewBatch(number, who, at, run_id, reviews)
        if add_numbered(workspace, workspace.reviews, batch):
            return batch
