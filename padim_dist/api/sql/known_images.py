"""Images that people name: by id, a unique prefix, or a path in the archive."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import duckdb

from padim_dist.errors import RequestError
from padim_dist.pages.words import listed
from padim_dist.redaction import redacted

_ID_LENGTH = 16
_SHOWN = 20


@dataclass(frozen=True)
class KnownImage:
    """An image as the rows that were searched have it; of several rows, as the newest has it."""

    image_id: str
    uri: str
    member: str | None
    etag: str | None


@dataclass(frozen=True)
class Rows:
    """Rows of images that people may name.

    Attributes
    ----------
    sql : str
        Query with image_id, uri, member, etag, and a place: the highest one counts.
    owner, advice : str
        What has these images; where their ids are listed.
    """

    sql: str
    owner: str
    advice: str


def rows_of_run(run_id: str) -> Rows:
    """Return the images of a run, the only one in ``scores``."""
    return Rows(_OF_A_RUN, f"run {run_id}", _ADVICE.format("scores"))


def rows_of_all() -> Rows:
    """Return all images: as the newest finished run has them, else as the newest manifest."""
    return Rows(_OF_ALL, "the workspace", _ADVICE.format("images"))


def rows_of_archive() -> Rows:
    """Return the images of the newest manifest and those behind models."""
    advice = "'padim-dist suspects' and the view normals list ids"
    return Rows(_OF_ARCHIVE, "the archive", advice)


def find_images(
    connection: duckdb.DuckDBPyConnection, asked: Collection[str], archive: str, rows: Rows
) -> dict[str, KnownImage]:
    """Return the image that each asked text means.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        With the views that `rows` needs.
    asked : collection of str
        Ids, unique prefixes, or paths in the archive with the name in a tar file, as ``top``
        prints them.
    archive : str
        URL of the archive.
    rows : Rows
        The images.

    Raises
    ------
    RequestError
        Names all texts that mean no image, or several.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE asked (text VARCHAR)")
    connection.execute("INSERT INTO asked SELECT unnest(?)", [sorted(set(asked))])
    connection.execute("SET VARIABLE archive = ?", [f"{redacted(archive)}/"])
    found: dict[str, list[KnownImage]] = {}
    lengths = {min(len(text), _ID_LENGTH) for text in asked}
    for length in sorted(lengths):
        key = "image_id" if length == _ID_LENGTH else f"left(image_id, {length})"
        _add(found, connection, rows.sql, key)
    if found.keys() < set(asked):
        for key in ("concat_ws(' ', uri, member)", _NAME):
            _add(found, connection, rows.sql, key)
    _refuse(asked, found, rows)
    return {text: images[0] for text, images in found.items()}


def _add(
    found: dict[str, list[KnownImage]],
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    key: str,
) -> None:
    """Look up what was not found yet by a key: an SQL expression."""
    query = (
        "SELECT text, image_id, arg_max({'uri': uri, 'member': member, 'etag': etag}, place) "
        f"FROM ({rows}) JOIN asked ON {key} = text GROUP BY ALL ORDER BY ALL"
    )
    fresh: dict[str, list[KnownImage]] = {}
    for text, image_id, place in connection.execute(query).fetchall():
        fresh.setdefault(text, []).append(KnownImage(image_id, **place))
    found.update({text: images for text, images in fresh.items() if text not in found})


def _refuse(asked: Collection[str], found: dict[str, list[KnownImage]], rows: Rows) -> None:
    """Refuse what means no image or several, all at once."""
    unknown = sorted(set(asked) - found.keys())
    several = {text: images for text, images in sorted(found.items()) if len(images) > 1}
    faults = []
    if unknown:
        faults.append(
            f"{rows.owner} has no {'image' if len(unknown) == 1 else 'images'} "
            f"{listed(map(repr, unknown), _SHOWN)}"
        )
    if several:
        meant = (
            f"{text!r} ({listed((image.image_id for image in images), 3)})"
            for text, images in several.items()
        )
        faults.append(f"several images have ids that begin with {listed(meant, _SHOWN)}")
    if faults:
        raise RequestError(f"{'; '.join(faults)}. Nothing was done. {rows.advice}")


_ADVICE = (
    "'padim-dist top' lists ids of images, 'padim-dist query \"SELECT image_id, uri FROM {}\"' all"
)
_OF_A_RUN = "SELECT image_id, uri, member, etag, 0 AS place FROM scores"
# What the newest finished run has, as `top` shows it; else what the newest manifest has. Images of
# the same path in another archive have the same id: those of the own archive come before them.
_OF_ALL = """
    SELECT image_id, uri, member, etag, (starts_with(uri, getvariable('archive')), recency) AS place
    FROM (
        SELECT image_id, uri, member, etag, (turn, asked_at) AS recency
        FROM scores JOIN runs USING (run_id)
        UNION ALL SELECT image_id, uri, member, etag, (-1, TIMESTAMPTZ '1970-01-01') FROM images
    )"""
_OF_ARCHIVE = """
    SELECT image_id, uri, member, etag, 1 AS place FROM images
    UNION ALL SELECT image_id, uri, member, etag, 0 FROM normals"""
_NAME = """concat_ws(' ', CASE WHEN starts_with(uri, getvariable('archive'))
    THEN substr(uri, length(getvariable('archive')) + 1) ELSE uri END, member)"""
