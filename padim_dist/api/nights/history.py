"""History: the images that were new, changed or gone at each index of an archive."""

from __future__ import annotations

from dataclasses import dataclass, field

from padim_dist.api.settings.moved import moved_hint
from padim_dist.api.settings.places import ConfigLike, archive_settings, as_config, workspace_of
from padim_dist.events import Listener, ignore
from padim_dist.store.history import Entry, read_history


@dataclass(frozen=True)
class HistoryResult:
    """Entries of an archive's history, the oldest first, and notes on it."""

    entries: list[Entry]
    notes: list[str] = field(default_factory=list)


def history(config: ConfigLike, _listener: Listener = ignore) -> HistoryResult:
    """List the changes of the archive that each index found.

    Parameters
    ----------
    config : Config or path
        The configuration.
    """
    config = as_config(config)
    workspace, settings = workspace_of(config), archive_settings(config)
    entries = read_history(workspace, settings, all_of_them=False)
    hint = "" if entries else moved_hint(config)
    return HistoryResult(entries, [hint] if hint else [])
