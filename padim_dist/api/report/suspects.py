"""Suspects of a model's fit, for the report: normal images that all others find anomalous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import duckdb
from PIL import Image

from padim_dist.api.analysis.run_images import RunImages
from padim_dist.api.report.gallery import archive_url
from padim_dist.api.settings.places import logger
from padim_dist.api.sql.tables import image_name, quoted
from padim_dist.api.sql.views import open_views
from padim_dist.archive.rows import ImageRow
from padim_dist.config import Config
from padim_dist.errors import PadimDistError, RunError
from padim_dist.pages.cards import Suspect
from padim_dist.pages.encode import SMALL_BYTES, SMALL_SIDE, encode

_MOST = 24


def find_suspects(config: Config, run: RunImages) -> tuple[list[Suspect], int]:
    """Return the suspects of a run's model, the most anomalous first, and how many are left out.

    Their pictures are read from the newest manifest of the archive, where they are in it.

    Parameters
    ----------
    config : Config
        The configuration.
    run : RunImages
        The run.
    """
    connection, _ = open_views(config, None, run.head.run_id)
    columns = 'image_id, "group", uri, member, score, p_value, dropped'
    query = f"SELECT {columns} FROM normals WHERE model_id = ? AND (suspect OR dropped)"
    try:
        found = connection.sql(query, params=[run.head.model_id])
    except duckdb.CatalogException:  # the workspace has no such view
        return [], 0
    rows = found.order("p_value NULLS LAST, score DESC, uri, member").fetchall()
    pictures = _pictures(run, connection, [row[0] for row in rows[:_MOST]])
    archive = archive_url(run)
    suspects = [
        Suspect(
            image_id=image_id,
            group=group,
            path=image_name(archive, uri, member),
            score=score,
            p_value=p_value,
            dropped=bool(dropped),
            picture=pictures.get(image_id),
        )
        for image_id, group, uri, member, score, p_value, dropped in rows[:_MOST]
    ]
    return suspects, len(rows) - len(suspects)


def _pictures(
    run: RunImages, connection: duckdb.DuckDBPyConnection, ids: Sequence[str]
) -> dict[str, bytes]:
    """Return small pictures of images by image_id, of those that can be read."""
    if not ids:
        return {}
    names = ", ".join(quoted(field.name) for field in fields(ImageRow))
    query = f"SELECT {names} FROM images WHERE image_id IN (SELECT unnest(?))"
    pictures = {}
    for values in connection.sql(query, params=[list(ids)]).fetchall():
        row = ImageRow(*values)
        try:
            pixels = run.reader.load_original(row)
        except RunError as error:  # the store fails
            logger.warning("suspects have no pictures: %s", error)
            break
        except (PadimDistError, OSError):
            continue
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        pictures[row.image_id] = encode(picture, SMALL_BYTES, SMALL_SIDE)
    return pictures
