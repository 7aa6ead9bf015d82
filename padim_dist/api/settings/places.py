"""Where a configuration's archive and workspace are, and which settings identify results.

Settings are stored without secrets, so a new password is no new archive. No torch, which takes
more memory than listing any archive.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from padim_dist.archive.addresses import real_path_below
from padim_dist.archive.films.every import EVERY
from padim_dist.config import Config, load_config
from padim_dist.config.identity import identity
from padim_dist.core.alarms import RULES
from padim_dist.errors import ConfigError
from padim_dist.redaction import redacted, redacted_tree
from padim_dist.storage import Folder, Options
from padim_dist.store.manifests import root_of
from padim_dist.store.workspace import Workspace

logger = logging.getLogger("padim_dist")

ConfigLike = Config | str | os.PathLike[str]
"""A configuration, or the path of its YAML file."""
_YAML = (".yaml", ".yml")
_NOT_OF_A_MANIFEST = {"name", "max_pixels", "bits", "read_deadline", "decode_deadline", "time"}
_EVERY = {"every": EVERY}
"""The default of ``archive.video``, which says what null says."""
_ADDED = ("exclude", "allow", "video")
"""Settings that earlier versions lacked: unset, they leave the ids of workspaces as they are."""


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


def workspace_in_archive(config: Config) -> str | None:
    """Return the path of the workspace inside the archive; None if it lies elsewhere.

    Raises
    ------
    ConfigError
        If both are the same folder.
    """
    workspace, archive = workspace_of(config).folder.url, archive_of(config).url
    path = real_path_below(workspace, archive)
    if path == "":
        raise ConfigError(
            f"workspace and archive.url are the same folder, {archive}; set workspace to a folder "
            "of its own (and move the files of the workspace there, if it exists already)"
        )
    return path


def archive_in_workspace(config: Config) -> str | None:
    """Return the path of the archive inside the workspace; None if it lies elsewhere."""
    return real_path_below(archive_of(config).url, workspace_of(config).folder.url) or None


def archive_settings(config: Config) -> dict[str, Any]:
    """Return the settings that determine a manifest; its url is the name of the archive."""
    settings = config.archive.model_dump(mode="json", exclude=_NOT_OF_A_MANIFEST)
    added = {name: settings.pop(name) for name in _ADDED}
    given = {name: value for name, value in added.items() if value and value != _EVERY}
    return redacted_tree({**settings, **given, "url": _archive_name(config)})


def archive_root(config: Config) -> str:
    """Return the folder (or tar file) below which the archive's relative paths are now."""
    return root_of({**archive_settings(config), "url": archive_of(config).url})


def archive_title(config: Config) -> str:
    """Return the name of the archive in titles: the last part of its name or url."""
    return redacted(_archive_name(config)).rstrip("/").rpartition("/")[2]


def _archive_name(config: Config) -> str:
    name = config.archive.name
    if name is None:
        return archive_of(config).url
    # A url as in archive.url, or any other name.
    return Folder(name).url if "/" in name or name.startswith("~") else name


def model_settings(config: Config) -> dict[str, Any]:
    """Return the settings that identify a model: its archive and section model."""
    archive = {**archive_settings(config), **_camera(config)}
    del archive["shard_images"]
    return redacted_tree({"archive": archive, "model": identity(config.model)})


def run_settings(config: Config, partial: bool = False) -> dict[str, Any]:
    """Return the settings that identify a run; `partial`: it has only some of the images."""
    # A rule makes no other run: it is applied to one.
    score = config.score.model_dump(mode="json", exclude=set(RULES))
    settings: dict[str, Any] = {"score": score}
    return {**settings, "partial": True} if partial else settings


def asked_settings(config: Config) -> dict[str, Any]:
    """Return all settings that determine results, for comparison when a run or fit resumes."""
    sections = config.model_dump(mode="json", include={"fit", "score"})
    settings = redacted_tree({"model": identity(config.model), **sections})
    archive = {**archive_settings(config), "max_pixels": config.archive.max_pixels}
    return {**settings, "archive": {**archive, **_camera(config)}}


def _camera(config: Config) -> dict[str, int]:
    """Return the bits that the camera delivers, if set: they change pixels, not the manifest."""
    return {} if config.archive.bits is None else {"bits": config.archive.bits}
