"""The whole configuration, read from YAML and ``key=value``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from padim_dist.config.base import Section
from padim_dist.config.cluster import ClusterConfig
from padim_dist.config.model import ModelConfig
from padim_dist.config.nights import AuditConfig, NotifyConfig
from padim_dist.config.publish import PublishConfig
from padim_dist.config.retention import RetentionConfig
from padim_dist.config.sections import (
    ArchiveConfig,
    FitConfig,
    ScoreConfig,
)
from padim_dist.errors import ConfigError

_RENAMED = {"score.a_run": "false_alarms_per_run"}  # keys of earlier versions


class Config(Section):
    """The whole configuration.

    Examples
    --------
    >>> config = Config(workspace="./audit", archive={"url": "photos"})
    >>> config.model.crop, config.cluster.kind
    ((256, 256), 'local')
    """

    workspace: str
    """Folder of all results: a path or any fsspec URL."""
    storage_options: dict[str, dict[str, Any]] = Field(default_factory=dict, repr=False)
    """Options for fsspec, by protocol. Put secrets in the environment."""
    archive: ArchiveConfig
    model: ModelConfig = ModelConfig()
    fit: FitConfig = FitConfig()
    score: ScoreConfig = ScoreConfig()
    audit: AuditConfig = AuditConfig()
    notify: NotifyConfig = NotifyConfig()
    retention: RetentionConfig | None = None
    """What `padim-dist prune` removes, and every night at its end. Null: nothing is removed."""
    publish: PublishConfig = PublishConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _nights_share_a_rate(self) -> Config:
        if self.audit.fdr_nights is not None and self.score.fdr is None:
            raise ValueError("'audit.fdr_nights' needs 'score.fdr'; set that too")
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file.

    Parameters
    ----------
    path : str or Path
        Path of the file.
    overrides : sequence of str
        ``path.to.key=value``; the value is read as YAML.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is wrong.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"configuration {path} cannot be read: {reason}") from error
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {path} is not valid YAML: {_place(error)}") from None
    if not isinstance(tree, dict):
        found = type(tree).__name__
        raise ConfigError(f"configuration {path} is not a mapping of sections; found a {found}")
    for override in overrides:
        _override(tree, override)
    return make_config(tree, str(path))


def make_config(tree: Mapping[str, Any], source: str = "configuration") -> Config:
    """Validate a tree of settings; see `load_config` for the errors."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(dict.fromkeys(lines))) from None


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, each as ``key: old -> new``."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return found


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        start = re.split(r"[^\w.-]", override)[0]  # the rest may be a secret
        raise ConfigError(f"--set {start!r}... is not of the form path.to.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key!r}: the value is not YAML: {_place(error)}") from None
    *path, last = key.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {key!r}: {name!r} is a value, not a section")
    tree[last] = value


def _place(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, without the text, which may have a secret."""
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or 'unreadable'}{where}"


def _explain(item: dict[str, Any]) -> str:
    """Return the message of a validation error, with the valid keys for an unknown key."""
    # For a union pydantic adds the tried member to the path: "workers.constrained-int".
    path = [str(part) for part in item["loc"] if re.fullmatch(r"[a-z_0-9]+", str(part))]
    path = [part for part in path if part not in ("int", "float", "str", "none", "bool")]
    name = ".".join(path)
    if item["type"] == "extra_forbidden":
        section = _section(path[:-1])
        near = difflib.get_close_matches(path[-1], section, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        if name in _RENAMED:
            hint = f": it is now {_RENAMED[name]!r}"
        where = f"section {'.'.join(path[:-1])!r}" if path[:-1] else "the top level"
        return f"unknown key {name!r}{hint}; valid keys of {where}: {', '.join(section)}"
    if item["type"] == "missing":
        return f"missing key {name!r}"
    message = item["msg"].removeprefix("Value error, ")
    if not path:  # a rule of the whole: its value may have secrets
        return str(message)
    if path[:1] == ["storage_options"] or path[:3] == ["publish", "iceberg", "catalog"]:
        return f"{name}: {message}; found a {type(item['input']).__name__}"
    return f"{name}: {message}; found {item['input']!r}"


def _section(path: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for name in path:
        inner = model.model_fields[name].annotation
        members = [inner, *get_args(inner)]  # also for "TlsConfig | None"
        model = next(m for m in members if isinstance(m, type) and issubclass(m, BaseModel))
    return list(model.model_fields)
