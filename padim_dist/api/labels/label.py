"""Label: write down what a person says about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from padim_dist.api.labels.fiftyone_tags import read_fiftyone_tags
from padim_dist.api.labels.review_files import (
    AskedReview,
    ReviewFile,
    asked_review,
    cleaned,
    read_review_file,
)
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config, workspace_of
from padim_dist.api.sql.known_images import KnownImage, find_images, rows_of_all, rows_of_run
from padim_dist.api.sql.tables import image_name
from padim_dist.api.sql.views import open_views
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.pages.words import counted
from padim_dist.store.lease import user_and_host
from padim_dist.store.reviews import (
    DEFECT,
    OK,
    Review,
    ReviewBatch,
    VerdictName,
    add_reviews,
    read_reviews,
    verdicts_of,
)
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace

_SHOWN = 20


@dataclass(frozen=True)
class Disagreement:
    """A review that differs from the one before it of the same object, which is kept.

    Attributes
    ----------
    image, image_id : str
        Path in the archive, and the name in the tar file if it is in one; id.
    verdict, before : str
        The new verdict, which counts, and the one before.
    by, at : str
        Who gave the one before, and when (ISO 8601, UTC).
    """

    image: str
    verdict: VerdictName
    before: VerdictName
    by: str
    at: str
    image_id: str


@dataclass(frozen=True)
class LabelResult:
    """What was written.

    Attributes
    ----------
    number : int
        Number of the batch of reviews.
    images, ok, defect : int
        Reviewed images, and the newest verdicts on them.
    who : str
        The reviewer.
    notes : list of str
        Remarks.
    disagreements : list of Disagreement
        The first 20 reviews that differ from earlier ones.
    """

    number: int
    images: int
    ok: int
    defect: int
    who: str
    notes: list[str]
    disagreements: list[Disagreement]


def label(
    config: ConfigLike,
    _listener: Listener = ignore,
    *,
    images: Sequence[str] = (),
    verdict: str | None = None,
    kind: str | None = None,
    note: str = "",
    file: str | None = None,
    fiftyone: str | None = None,
    run: str | None = None,
    by: str | None = None,
) -> LabelResult:
    """Review images: say that they are normal, or that they show a defect.

    A review is about the object that the run scored: an image with its etag. The newest review of
    an object counts, and all are kept (`docs/formats.md`). It is joined when results are read, so
    that nothing is scored again.

    Parameters
    ----------
    config : Config or path
        The configuration.
    images : sequence of str
        Ids of images, unique prefixes, or their paths in the archive as `top` prints them.
    verdict : str
        ``"ok"`` or ``"defect"``.
    kind, note : str, optional
        Kind of the defect; any text.
    file : str, optional
        Instead of the above: path of a CSV or JSON file of reviews, such as the report saves.
    fiftyone : str, optional
        Instead of the above: name of a FiftyOne data set that `export` made; its new tags ``ok``
        and ``defect`` are the reviews.
    run : str, optional
        Id of the run that was looked at, or a unique prefix; by default that of the file, or
        for each image the newest finished run.
    by : str, optional
        The reviewer; by default the user and host of this process.

    Raises
    ------
    RequestError
        If an image is not known or a value is wrong; then nothing is written.

    Examples
    --------
    >>> label(config, images=["3ffa"], verdict="defect", kind="scratch").defect  # doctest: +SKIP
    1
    """
    config = as_config(config)
    if len([source for source in (file, fiftyone, images or verdict) if source]) > 1:
        raise RequestError(
            "--from and --from-fiftyone name images and verdicts themselves; give one of them, or "
            "images and a verdict"
        )
    if (file or fiftyone) and (kind or note):
        raise RequestError(
            "--kind and --note are those of one verdict; --from and --from-fiftyone have their own"
        )
    tags = read_fiftyone_tags(fiftyone) if fiftyone else None
    if tags:
        given = tags.found
    else:
        given = read_review_file(file) if file else _given(images, verdict, kind, note)
    workspace = workspace_of(config)
    if given.run and not run and Run(workspace, given.run).find_head() is None:
        raise RequestError(
            f"{file} is about run {given.run}, which this workspace does not have; --run names "
            "another. Nothing was written"
        )
    connection, heads = open_views(config, None, run or given.run)
    run_id = heads[0].run_id if run or given.run else None
    asked = {review.image for review in given.reviews}
    archive = archive_of(config).url
    found = find_images(
        connection, asked, archive, rows_of_run(run_id) if run_id else rows_of_all()
    )
    reviews = [_review(asked, found[asked.image]) for asked in given.reviews]
    who = cleaned(by) or user_and_host()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    batch = add_reviews(workspace, who, now, run_id, reviews)
    if tags:
        tags.mark_imported()
    changed = _disagreements(workspace, batch, archive)
    newest = [found.verdict for found in verdicts_of([batch]).values()]
    differ = (
        f"earlier reviews said otherwise of {counted(len(changed), 'image')}: the newest counts, "
        "all are kept ('padim-dist query \"FROM reviews\"')"
    )
    return LabelResult(
        number=batch.number,
        images=len(newest),
        ok=newest.count(OK),
        defect=newest.count(DEFECT),
        who=who,
        notes=[differ] if changed else [],
        disagreements=changed[:_SHOWN],
    )


def _given(images: Sequence[str], verdict: str | None, kind: str | None, note: str) -> ReviewFile:
    """Return the reviews of the arguments."""
    if not images or verdict is None:
        lacking = "a verdict, ok or defect, after the images" if images else "images and a verdict"
        raise RequestError(
            f"nothing was written: name {lacking}, as in 'padim-dist label 3ffa91 defect', or give "
            "--from FILE"
        )
    if kind and verdict == OK:
        raise RequestError("--kind is the kind of a defect; leave it out for the verdict ok")
    try:
        return ReviewFile(None, [asked_review(image, verdict, kind, note) for image in images])
    except ValueError as error:
        raise RequestError(f"{error}; nothing was written") from None


def _review(asked: AskedReview, image: KnownImage) -> Review:
    return Review(
        image_id=image.image_id,
        verdict=asked.verdict,
        kind=asked.kind,
        note=asked.note,
        uri=image.uri,
        member=image.member,
        etag=image.etag,
    )


def _disagreements(workspace: Workspace, batch: ReviewBatch, archive: str) -> list[Disagreement]:
    """Return the reviews of a batch that differ from the one before them."""
    earlier = [other for other in read_reviews(workspace) if other.number < batch.number]
    before = verdicts_of(earlier)
    found = []
    for review in batch.reviews:
        last = before.get(review.about)
        if last and last.verdict != review.verdict:
            name = image_name(archive, review.uri or "", review.member)
            what = (review.verdict, last.verdict, last.who, last.at)
            found.append(Disagreement(name, *what, review.image_id))
        before |= verdicts_of([ReviewBatch(batch.number, batch.who, batch.at, None, [review])])
    return found
