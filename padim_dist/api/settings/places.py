"""Where a configuration's archive and workspace are: all that listing an archive needs.

It imports no torch, which alone takes more memory than listing any archive.
"""

from __future__ import annotations

import logging
from typing import Any

from padim_dist.config import Config
from padim_dist.storage import Folder
from padim_dist.store.workspace import Workspace

logger = logging.getLogger("padim_dist")


def workspace_of(config: Config) -> Workspace:
    """The workspace."""
    return Workspace(Folder(config.workspace, config.storage_options))


def archive_of(config: Config) -> Folder:
    """The archive."""
    return Folder(config.archive.url, config.storage_options)


def archive_settings(config: Config) -> dict[str, Any]:
    """Settings that determine a manifest."""
    settings = config.archive.model_dump(mode="json", exclude={"max_pixels"})
    return {**settings, "url": archive_of(config).url}
