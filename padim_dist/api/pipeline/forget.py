"""Forget: a fit without some images, and every later one."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from padim_dist.api.pipeline.chosen.forgotten import find_forgotten
from padim_dist.api.pipeline.chosen.pieces import find_normal
from padim_dist.api.pipeline.fit import FitResult, fit
from padim_dist.api.pipeline.index import current_manifest
from padim_dist.api.settings.places import (
    ConfigLike,
    archive_of,
    archive_settings,
    as_config,
    workspace_of,
)
from padim_dist.api.sql.known_images import find_images, rows_of_archive
from padim_dist.api.sql.views import open_views
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.pages.words import counted, listed
from padim_dist.store.image_objects import ImageObject, ids_of
from padim_dist.store.lease import user_and_host
from padim_dist.store.normals import Forgetting, add_forgetting


@dataclass(frozen=True)
class ForgetResult:
    """Result of forgetting images.

    Attributes
    ----------
    images, forgotten : int
        Images of this call; all that are forgotten now.
    model_id : str
        The new model, which is not promoted.
    groups : mapping of str to int
        Images in it by group.
    warnings : list of str
        Warnings about the model.
    notes : list of str
        Remarks.
    """

    images: int
    forgotten: int
    model_id: str
    groups: dict[str, int]
    warnings: list[str]
    notes: list[str]


def forget(
    config: ConfigLike,
    listener: Listener = ignore,
    *,
    image_ids: Sequence[str],
    undo: bool = False,
    note: str = "",
) -> ForgetResult:
    """Fit without some normal images, and leave them out of every later fit of the archive.

    The new model equals that of a fit that never saw them. An image whose embedding was kept is not
    read again. The list of forgotten images is kept in the workspace, with their etags: a picture
    that replaces a forgotten one is not forgotten.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    image_ids : sequence of str
        Ids of the images, unique prefixes, or paths in the archive; `padim_dist.suspects` lists
        some.
    undo : bool, optional
        Let fits use the images again.
    note : str, optional
        The reason, kept with the list.

    Raises
    ------
    RequestError
        If an image is not known, or is no normal image of the fit; with `undo`, none that is
        forgotten; or an image cannot be taken out of the fit, since its embedding was not kept and
        it has changed.
    ConfigError, ArchiveError, ResourceError, HeldError, RunError
        As `padim_dist.fit`.

    Examples
    --------
    >>> forget(config, image_ids=["3ffa90c2d1b04e77"]).groups        # doctest: +SKIP
    {'all': 208}
    """
    config = as_config(config)
    ids = _ids(config, image_ids)
    before = {one for one in find_forgotten(config) if one.image_id in ids}
    if undo:
        _check_known(ids, ids_of(before), "a forgotten image")
        _record(config, before, undo, note)
        found = fit(config, listener)
    else:
        there = find_normal(config, current_manifest(config, listener), ids)
        _check_known(ids, ids_of(there | before), "a normal image of the fit")
        # Only what has worked is recorded: otherwise no later fit would work.
        found = fit(_without(config, ids_of(there - before)), listener)
        _record(config, there | before, undo, note)
    return _result(config, ids, found)


def _result(config: Config, ids: Sequence[str], found: FitResult) -> ForgetResult:
    forgotten = len(find_forgotten(config))
    notes = [
        "'padim-dist score' scores with this model",
        f"'padim-dist promote {found.model_id}' uses it in audits",
    ]
    align = config.model.align
    if align and align.to == "median":
        notes.append(
            "the medians that images are aligned with stay, and may have been made of these images "
            "too; another model.align.number makes new ones, and embeds all images anew"
        )
    return ForgetResult(len(ids), forgotten, found.model_id, found.groups, found.warnings, notes)


def _ids(config: Config, named: Sequence[str]) -> list[str]:
    """Return the ids of images that people name. A forgotten image may have left the archive."""
    if not named:
        raise RequestError("name the images to forget; 'padim-dist suspects' lists some")
    ids = {name for name in named if re.fullmatch("[0-9a-f]{16}", name)}
    if others := set(named) - ids:
        connection, _ = open_views(config, None, None)
        found = find_images(connection, others, archive_of(config).url, rows_of_archive())
        ids |= {image.image_id for image in found.values()}
    return sorted(ids)


def _without(config: Config, ids: set[str]) -> Config:
    """Return the configuration that leaves out images by `fit.without`: it gives the same model."""
    without = tuple(sorted({*config.fit.without, *ids}))
    return config.model_copy(update={"fit": config.fit.model_copy(update={"without": without})})


def _check_known(ids: Sequence[str], known: set[str], what: str) -> None:
    if unknown := sorted(set(ids) - known):
        raise RequestError(
            f"{counted(len(unknown), 'id')} not of {what}: {listed(unknown)}. "
            "'padim-dist suspects' and the view normals list ids"
        )


def _record(config: Config, objects: Collection[ImageObject], undo: bool, note: str) -> None:
    workspace, settings = workspace_of(config), archive_settings(config)
    images = sorted(objects, key=lambda one: (one.image_id, one.etag or ""))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    add_forgetting(
        workspace,
        settings,
        lambda number: Forgetting(number, images, undo, note, user_and_host(), now),
    )
