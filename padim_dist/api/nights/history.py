"""History: the images that were new, changed or gone at each index of an archive."""

from __future__ import annotations

from dataclasses import dataclass

from padim_dist.api.settings.places import ConfigLike, archive_settings, as_config, workspace_of
from padim_dist.events import Listener, ignore
from padim_dist.store.history import Entry, read_history


@dataclass(frozen=True)
class HistoryResult:
    """Entries of an archive's history, the oldest first."""

    entries: list[Entry]


def history(config: ConfigLike, _listener: Listener = ignore) -> HistoryResult:
    """List the changes of the archive that each index found.

    Parameters
    ----------
    config : Config or path
        The configuration.
    """
    config = as_config(config)
    workspace, settings = workspace_of(config), archive_settings(config)
    return HistoryResult(read_history(workspace, settings, all_of_them=False))
