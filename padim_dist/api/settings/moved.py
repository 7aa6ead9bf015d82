"""An archive that has moved: its rows where they are now, and a hint for who forgot its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from padim_dist.api.settings.places import archive_root, archive_settings, workspace_of
from padim_dist.archive.listing.relocate import relocate
from padim_dist.config import Config
from padim_dist.store.history import last_entries
from padim_dist.store.manifests import ManifestHead, Snapshot, find_head, read_rows

Move = tuple[str | None, str]
"""Where the archive was when a manifest was made, None if it has not moved since; where it is."""


def move_since(config: Config, manifest: Snapshot | ManifestHead | None) -> Move:
    """Return how the archive has moved since a manifest was made.

    A manifest of an archive with another name is of another archive, which has not moved.
    """
    now = archive_root(config)
    if manifest is None or manifest.settings["url"] != archive_settings(config)["url"]:
        return None, now
    return (None if manifest.below == now else manifest.below), now


def move_since_id(config: Config, snapshot: str) -> Move:
    """Return how the archive has moved since the manifest with an id was made."""
    return move_since(config, find_head(workspace_of(config), snapshot))


def rows_here(config: Config, manifest: Snapshot, splits: Sequence[str]) -> Iterator[pa.Table]:
    """Read the rows of a manifest, with the addresses that they have now, in no particular order.

    They have the columns of the manifest, and their numbers in it (`NUMBER`).
    """
    rows = read_rows(workspace_of(config), manifest, splits)
    return relocate(rows, *move_since(config, manifest))


def scored_here(config: Config, snapshot: str, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Return score rows of a manifest's images, with the addresses that they have now.

    Only an archive with a name can have moved.
    """
    if config.archive.name is None:
        return tables
    return relocate(tables, *move_since_id(config, snapshot))


def former_names(config: Config) -> list[str]:
    """Return the names of archives that the workspace knows, if it does not know this one.

    Only those with the same settings otherwise: this one may be one of them that has moved.
    """
    workspace, settings = workspace_of(config), archive_settings(config)
    found = []
    for entry in last_entries(workspace):
        head = find_head(workspace, entry.snapshot)
        if head is not None and {**head.settings, "url": settings["url"]} == settings:
            found.append(str(head.settings["url"]))
    return [] if settings["url"] in found else sorted(found)


def moved_hint(config: Config) -> str:
    """Return a sentence on `archive.name` if the archive may have moved; otherwise nothing."""
    names = former_names(config)
    if not names:
        return ""
    known = " and ".join(names[:3])
    return (
        f"The workspace knows an archive with these settings as {known}, not as "
        f"{archive_settings(config)['url']}. If it has moved, set archive.name to {names[0]}: its "
        "models, nights and history then go on"
    )
