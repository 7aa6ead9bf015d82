"""Findings about what the model sees of every image."""

from __future__ import annotations

from collections.abc import Iterator

from padim_dist.api.findings import Finding
from padim_dist.api.pipeline.align.references import MEDIAN, read_picture
from padim_dist.api.pipeline.align.shapes import Heads, check_shape
from padim_dist.config import Config


def seen(config: Config, heads: Heads) -> Iterator[Finding]:
    """Yield what a crop hides, and what images are aligned with.

    Parameters
    ----------
    config : Config
        The configuration.
    heads : mapping of str to (ImageReader, sequence of ImageRow)
        A few images of some groups.

    Raises
    ------
    ConfigError
        If the picture that they are aligned with cannot be used.
    """
    if unseen := config.model.geometry.unseen:
        yield Finding(
            "crop",
            "warning",
            f"the model does not see {100 * unseen:.0f} % of every image: model.crop cuts off its "
            "edges",
            "a defect there changes no score; leave out model.crop if the edges matter",
        )
    if align := config.model.align:
        what, warning = "the median of the normal images of each group", None
        if align.to != MEDIAN:
            picture = read_picture(config, align)
            what = f"{align.to}, a picture of {picture.width}x{picture.height}"
            warning = check_shape(picture, align.to, heads)
        if warning:
            yield Finding("alignment", "warning", warning, "give these groups a model of their own")
        else:
            yield Finding("alignment", "ok", f"images are aligned with {what}")
