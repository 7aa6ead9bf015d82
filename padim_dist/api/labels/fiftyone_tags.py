"""Tags of a FiftyOne data set as reviews: ``ok`` and ``defect``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from padim_dist.api.fiftyone_package import VERDICT, import_fiftyone
from padim_dist.api.labels.review_files import AskedReview, ReviewFile, asked_review
from padim_dist.errors import RequestError
from padim_dist.pages.words import listed
from padim_dist.store.reviews import DEFECT, OK


@dataclass(frozen=True)
class FiftyOneTags:
    """New tags of a data set.

    Attributes
    ----------
    found : ReviewFile
        The run of the data set, and its new tags as reviews.
    """

    found: ReviewFile
    _dataset: Any = field(repr=False)
    _verdicts: Mapping[str, str] = field(repr=False)

    def mark_imported(self) -> None:
        """Write the verdicts into the data set: the next import takes only tags that changed."""
        self._dataset.set_values(VERDICT, dict(self._verdicts), key_field="id")


def read_fiftyone_tags(name: str) -> FiftyOneTags:
    """Read the tags of a data set that `export` made, as far as they are new.

    A tag is new if it is not the verdict that the image had when it was exported or last imported.

    Raises
    ------
    RequestError
        If FiftyOne is not installed, there is no such data set, a sample has both tags, or no tag
        is new.
    """
    fiftyone = import_fiftyone()
    if not fiftyone.dataset_exists(name):
        there = listed(fiftyone.list_datasets()) or "none"
        raise RequestError(f"FiftyOne has no data set {name!r}; it has {there}")
    dataset = fiftyone.load_dataset(name)
    needed = ("image_id", VERDICT)
    if not all(dataset.has_sample_field(field) for field in needed):
        raise RequestError(
            f"the data set {name!r} lacks the fields {' and '.join(needed)}; "
            "'padim-dist export --format fiftyone' makes one that has them"
        )
    reviews: list[AskedReview] = []
    verdicts, both = {}, []
    for sample_id, image_id, tags, verdict in zip(
        *dataset.values(["id", "image_id", "tags", VERDICT]), strict=True
    ):
        said = [tag for tag in (OK, DEFECT) if tag in (tags or [])]
        if len(said) > 1:
            both.append(str(image_id))
        elif said and said[0] != verdict:
            reviews.append(asked_review(image_id, said[0]))
            verdicts[sample_id] = said[0]
    if both:
        raise RequestError(
            f"samples of {name!r} have both tags, ok and defect: {listed(both)}. Remove one of "
            "them; nothing was written"
        )
    if not reviews:
        raise RequestError(f"the data set {name!r} has no new tag ok or defect: nothing to write")
    run = dataset.info.get("padim_dist_run")
    return FiftyOneTags(ReviewFile(run, reviews), dataset, verdicts)
