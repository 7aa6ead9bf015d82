"""Suspects of a model's fit, for the report: normal images that all others find anomalous."""

from __future__ import annotations

from PIL import Image

from padim_dist.api.analysis.run_images import RunImages
from padim_dist.api.analysis.suspect_pictures import Row, find_fitted
from padim_dist.api.analysis.suspects import suspect_rows
from padim_dist.api.report.gallery import archive_url
from padim_dist.api.settings.places import logger
from padim_dist.api.sql.tables import image_name
from padim_dist.config import Config
from padim_dist.errors import PadimDistError, RunError
from padim_dist.pages.cards import Suspect
from padim_dist.pages.encode import SMALL_BYTES, SMALL_SIDE, encode

_MOST = 24


def find_suspects(config: Config, run: RunImages) -> tuple[list[Suspect], int]:
    """Return the suspects of a run's model, the farthest from their group first.

    Return also how many more there are. A suspect that cannot be read any more has no picture.

    Parameters
    ----------
    config : Config
        The configuration.
    run : RunImages
        The run.
    """
    rows = suspect_rows(run.run.workspace, run.model.info)
    shown = rows[:_MOST]
    pictures = _pictures(config, run, shown) if shown else {}
    archive = archive_url(run)
    suspects = [
        Suspect(
            image_id=row["image_id"],
            group=row["group"],
            path=image_name(archive, row["uri"], row["member"]),
            score=row["score"],
            p_value=row["p_value"],
            dropped=row["dropped"],
            picture=pictures.get(row["image_id"]),
        )
        for row in shown
    ]
    return suspects, len(rows) - len(shown)


def _pictures(config: Config, run: RunImages, rows: list[Row]) -> dict[str, bytes]:
    """Return small pictures by image_id."""
    pictures = {}
    for image_id, (reader, image) in find_fitted(config, run.model.info, rows).items():
        try:
            pixels = reader.load_original(image)
        except RunError as error:  # the store fails
            logger.warning("suspects have no pictures: %s", error)
            break
        except (PadimDistError, OSError):
            continue
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        pictures[image_id] = encode(picture, SMALL_BYTES, SMALL_SIDE)
    return pictures
