"""Where a configuration's archive and workspace are, and which settings identify results.

No torch, which takes more memory than listing any archive.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from padim_dist.config import Config, load_config
from padim_dist.errors import ConfigError
from padim_dist.storage import Folder, Options
from padim_dist.store.workspace import Workspace

logger = logging.getLogger("padim_dist")

ConfigLike = Config | str | os.PathLike[str]
"""A configuration, or the path of its YAML file."""
_YAML = (".yaml", ".yml")
_NOT_OF_A_MANIFEST = {"max_pixels", "bits", "read_deadline", "decode_deadline"}
_ADDED = ("exclude", "allow")
"""Settings that version 0.2 lacked: unset, they leave the ids of its workspaces as they are."""


def as_config(config: ConfigLike) -> Config:
    """Return the configuration, read from its file if a path is given.

    Raises
    ------
    ConfigError
        If it is neither, or the file is wrong.
    """
    if isinstance(config, Config):
        return config
    if isinstance(config, (str, os.PathLike)):
        return load_config(os.fspath(config))
    raise ConfigError(
        f"a configuration is needed: a Config or the path of a YAML file; found "
        f"{type(config).__name__}. padim_dist.load_config('audit.yaml') returns a Config"
    )


def locate(where: ConfigLike, options: Options | None = None) -> tuple[Folder, Config | None]:
    """Return the folder that a reader means, and the configuration if one is given.

    Parameters
    ----------
    where : Config, str or path
        A Config, the path of a YAML file, or the URL of a workspace or of something inside it.
    options : mapping, optional
        fsspec options by protocol, for a URL.

    Raises
    ------
    ConfigError
        If it is none of these, or the file is wrong.
    """
    if isinstance(where, Config) or str(where).endswith(_YAML):
        config = as_config(where)
        return workspace_of(config).folder, config
    if not isinstance(where, (str, os.PathLike)):
        raise ConfigError(
            "a workspace is needed: its URL, the path of a YAML file or a Config; found "
            f"{type(where).__name__}"
        )
    return Folder(os.fspath(where), options or {}), None


def workspace_of(config: Config) -> Workspace:
    """Return the workspace."""
    return Workspace(Folder(config.workspace, config.storage_options))


def archive_of(config: Config) -> Folder:
    """Return the archive."""
    return Folder(config.archive.url, config.storage_options)


def archive_settings(config: Config) -> dict[str, Any]:
    """Return the settings that determine a manifest."""
    settings = config.archive.model_dump(mode="json", exclude=_NOT_OF_A_MANIFEST)
    added = {name: settings.pop(name) for name in _ADDED}
    given = {name: value for name, value in added.items() if value}
    return {**settings, **given, "url": archive_of(config).url}


def model_settings(config: Config) -> dict[str, Any]:
    """Return the settings that identify a model: its archive and section model."""
    archive = {**archive_settings(config), **_camera(config)}
    del archive["shard_images"]
    return {"archive": archive, "model": config.model.model_dump(mode="json")}


def run_settings(config: Config, partial: bool = False) -> dict[str, Any]:
    """Return the settings that identify a run; `partial`: it has only some of the images."""
    settings: dict[str, Any] = {"score": config.score.model_dump(mode="json")}
    return {**settings, "partial": True} if partial else settings


def asked_settings(config: Config) -> dict[str, Any]:
    """Return all settings that determine results, for comparison when a run or fit resumes."""
    settings = config.model_dump(mode="json", include={"model", "fit", "score"})
    archive = {**archive_settings(config), "max_pixels": config.archive.max_pixels}
    return {**settings, "archive": {**archive, **_camera(config)}}


def _camera(config: Config) -> dict[str, int]:
    """Return the bits that the camera delivers, if set: they change pixels, not the manifest."""
    return {} if config.archive.bits is None else {"bits": config.archive.bits}
