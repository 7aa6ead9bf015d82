"""The configuration: one frozen pydantic tree, read from YAML, overridden by ``key=value``.

A wrong key or value is a `ConfigError` that names the key, what was found, and what
is valid.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from padim_dist.core.geometry import InputGeometry
from padim_dist.errors import ConfigError

Size = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    BeforeValidator(lambda value: (value, value) if isinstance(value, int) else value),
]
Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
"""All of them."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ArchiveConfig(_Section):
    """Where the images are and how they are read."""

    url: str
    """Folder of the archive: a path or any fsspec URL."""
    layout: Literal["folder", "mvtec", "tar", "table"] = "folder"
    """``folder``: any folders; ``mvtec``: train/good, test/*, ground_truth; ``tar``: the url is
    a folder of .tar files, or one; ``table``: the url is a Parquet or CSV file with columns
    uri, group, split, label, mask_uri."""
    group: str | None = None
    """Regular expression with a group named ``group``, searched in the path inside the
    archive: each group has its own Gaussians. Null: one group."""
    train: str = "(^|/)(train|good|normal)/"
    """Regular expression: which images are normal, in the layouts ``folder`` and ``tar``,
    and in a ``table`` without a column split."""
    shard_images: int = Field(512, ge=1)
    """Images in a shard, the unit of work and of resuming."""
    max_pixels: int = Field(32_000_000, ge=1)
    """Larger images become rows ``too_large``."""

    @field_validator("group", "train")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"is not a regular expression: {error}") from error
        return value

    @field_validator("group")
    @classmethod
    def _is_named(cls, value: str | None) -> str | None:
        if value is not None and "group" not in re.compile(value).groupindex:
            raise ValueError("needs a group named 'group', e.g. \"^(?P<group>[^/]+)/\"")
        return value


class ModelConfig(_Section):
    """The embedding and its Gaussian; everything here is part of a model's identity."""

    backbone: str = "resnet18"
    """A torchvision classification model."""
    weights: str = "IMAGENET1K_V1"
    """A torchvision weights name, a path or URL of a state dict, or ``random``."""
    layers: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"
    """Feature-node names; auto: the paper's for the tested backbones."""
    channels: Literal["auto"] | Annotated[int, Field(ge=1)] | None = "auto"
    """How many channels to draw; auto: the paper's number; null: all."""
    seed: int = Field(1024, ge=0, lt=2**63)
    """Of the draw of channels, and of random weights."""
    resize: Size = (256, 256)
    """Height and width after the resize; one number for a square."""
    crop: Size = (224, 224)
    """Height and width of the centre crop; one number for a square."""
    epsilon: float = Field(0.01, gt=0)
    """Added to the diagonal of every covariance."""
    sigma: float = Field(4.0, ge=0)
    """Of the Gaussian filter on the anomaly map, in pixels."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the trunk; the statistics are always float32 and float64."""
    batch: int = Field(32, ge=1)
    """Images in one call of the trunk."""

    @model_validator(mode="after")
    def _crop_fits(self) -> ModelConfig:
        if self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]:
            raise ValueError(
                f"crop {self.crop[0]}x{self.crop[1]} is larger than resize "
                f"{self.resize[0]}x{self.resize[1]}"
            )
        return self

    @property
    def geometry(self) -> InputGeometry:
        """The resize and crop as the core knows them."""
        return InputGeometry(self.resize, self.crop)


class FitConfig(_Section):
    """The fit."""

    parts: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Parts of a group that are embedded and kept apart; auto: one a shard, at most 32."""
    window: int | None = Field(None, ge=1)
    """Fit on the normal images that came in the last so many entries of the archive's history
    (`padim-dist history`), whose moments are kept. Null: on those that the archive holds now."""
    without: Annotated[
        tuple[Annotated[str, BeforeValidator(str)], ...],
        AfterValidator(lambda names: tuple(sorted(set(names)))),
    ] = ()
    """Of a window, what is left out: days (``2026-11-20``), entries of the history (``7``), or
    their shards (``7/12``)."""

    @field_validator("without")
    @classmethod
    def _names_something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"\d{4}-\d\d-\d\d|\d+(/\d+)?", name):
                raise ValueError(
                    f"{name!r} is neither a day (2026-11-20) nor an entry (7) nor a shard (7/12)"
                )
        return value

    @model_validator(mode="after")
    def _needs_window(self) -> FitConfig:
        if self.without and self.window is None:
            raise ValueError("'without' leaves something out of a 'window'; set that too")
        return self


class ScoreConfig(_Section):
    """The scoring."""

    heatmaps: Literal["grid", "none"] = "grid"
    """``grid``: keep the patch grid of distances of every image."""
    splits: Annotated[
        tuple[Split, ...],
        Field(min_length=1),
        AfterValidator(lambda splits: tuple(sorted(set(splits), reverse=True))),
    ] = SPLITS
    """Which images are scored: by default every image of the manifest."""


class AuditConfig(_Section):
    """Nightly audits: what a night shows, and when it is odd."""

    top: int = Field(10, ge=1, le=50)
    """Images with the highest scores in the summary and its picture."""
    unusable: float = Field(0.05, ge=0, le=1)
    """Odd: a larger share of the images cannot be scored."""
    rise: float = Field(0.25, gt=0)
    """Odd: the median score of a group is by more than this share above what is usual."""
    compare: int = Field(14, ge=3)
    """Earlier nights that say what is usual; fewer than three say nothing."""


class AdaptiveConfig(_Section):
    """How far a cluster scales itself with the work that waits."""

    minimum: int = Field(1, ge=1)
    """Workers that are always there."""
    maximum: int = Field(ge=1)
    """Workers at most."""

    @model_validator(mode="after")
    def _in_order(self) -> AdaptiveConfig:
        if self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is less than minimum {self.minimum}")
        return self


class TlsConfig(_Section):
    """Files in PEM form for Dask's TLS: scheduler, workers and client trust the same authority."""

    ca: str
    """Certificate of the authority."""
    cert: str
    """Certificate of this side."""
    key: str
    """Its private key."""


class KubernetesConfig(_Section):
    """A DaskCluster that the Dask operator runs: infra/kubernetes makes one."""

    name: str = "padim-dist"
    """Of the DaskCluster."""
    namespace: str = "padim-dist"
    """Where it is."""


class ClusterConfig(_Section):
    """Where the work is done."""

    kind: Literal["local", "cuda", "address", "kubernetes"] = "local"
    """``local``: processes on this machine; ``cuda``: one for each GPU of this machine;
    ``address``: an existing Dask scheduler; ``kubernetes``: an existing DaskCluster."""
    address: str | None = None
    """Of the scheduler, for kind ``address``."""
    kubernetes: KubernetesConfig | None = None
    """``{name, namespace}`` of the DaskCluster, for kind ``kubernetes``."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Worker processes; auto: as many as cores (divided by threads) and memory hold."""
    adaptive: AdaptiveConfig | None = None
    """``{minimum, maximum}``: workers come and go with the work, instead of ``workers``; for kinds
    ``local`` and ``kubernetes``."""
    idle_timeout: float | None = Field(None, ge=60)
    """Seconds without work until a cluster that a command started ends, and the command with it,
    should that hang; for kinds ``local`` and ``cuda``."""
    tls: TlsConfig | None = None
    """Encrypts all of Dask's connections, and lets nobody in without a certificate."""
    threads: int = Field(1, ge=1)
    """Threads of the trunk in each worker."""
    readers: int = Field(2, ge=1)
    """Threads that decode ahead in each worker."""
    requests: int = Field(16, ge=1)
    """Requests for images that are under way at the same time in each worker."""
    memory: Literal["auto"] | str = "auto"
    """Memory limit of a local worker, e.g. ``8GiB``; auto: its share of the machine's."""

    @model_validator(mode="after")
    def _goes_together(self) -> ClusterConfig:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("kind 'address' and a value for 'address' go together")
        if (self.kind == "kubernetes") != (self.kubernetes is not None):
            raise ValueError(
                "kind 'kubernetes' and a section 'kubernetes: {name, namespace}' go together"
            )
        if self.adaptive and (self.kind not in ("local", "kubernetes") or self.workers != "auto"):
            raise ValueError(
                "'adaptive' is for kinds 'local' and 'kubernetes', without 'workers'; another "
                "cluster is scaled by whoever runs it, and workers may come and go at any time"
            )
        if self.idle_timeout and self.kind not in ("local", "cuda"):
            raise ValueError(
                f"'idle_timeout' ends what a command started, and a cluster of kind {self.kind!r} "
                "is somebody else's: set it there ('dask scheduler --idle-timeout', or the minimum "
                "of a DaskAutoscaler)"
            )
        if self.tls and self.kind == "kubernetes":
            raise ValueError(
                "'tls' is not for kind 'kubernetes', since dask-kubernetes connects without; "
                "network policies close the scheduler (infra/kubernetes), or use kind 'address'"
            )
        return self

    @property
    def place(self) -> str:
        """Where its scheduler is, for people."""
        if self.kubernetes:
            return f"DaskCluster {self.kubernetes.name} in namespace {self.kubernetes.namespace}"
        return self.address or "this machine"

    @property
    def most_workers(self) -> int | None:
        """Workers that the cluster may scale itself to; None where it does not."""
        return self.adaptive.maximum if self.adaptive else None


class Config(_Section):
    """A whole configuration.

    Examples
    --------
    >>> config = Config(workspace="./audit", archive={"url": "photos"})
    >>> config.model.crop, config.cluster.kind
    ((224, 224), 'local')
    """

    workspace: str
    """Folder where everything is kept: a path or any fsspec URL."""
    storage_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options for fsspec, by protocol. Secrets belong in the environment."""
    archive: ArchiveConfig
    model: ModelConfig = ModelConfig()
    fit: FitConfig = FitConfig()
    score: ScoreConfig = ScoreConfig()
    audit: AuditConfig = AuditConfig()
    cluster: ClusterConfig = ClusterConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file.

    Parameters
    ----------
    path : str or Path
        The file.
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
        raise ConfigError(f"configuration {path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"configuration {path} is not a mapping of sections; found {tree!r}")
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
        raise ConfigError(f"--set {override!r} is not of the form path.to.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML: {error}") from error
    *path, last = key.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override!r}: {name!r} is a value, not a section")
    tree[last] = value


def _explain(item: dict[str, Any]) -> str:
    """One validation error in words, with the valid keys where a key is unknown."""
    # Of a union pydantic also names the member that it tried: "workers.constrained-int".
    path = [str(part) for part in item["loc"] if re.fullmatch(r"[a-z_0-9]+", str(part))]
    path = [part for part in path if part not in ("int", "float", "str", "none", "bool")]
    name = ".".join(path)
    if item["type"] == "extra_forbidden":
        section = _section(path[:-1])
        near = difflib.get_close_matches(path[-1], section, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        where = f"section {'.'.join(path[:-1])!r}" if path[:-1] else "the top level"
        return f"unknown key {name!r}{hint}; valid keys of {where}: {', '.join(section)}"
    if item["type"] == "missing":
        return f"missing key {name!r}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{name}: {message}; found {item['input']!r}"


def _section(path: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for name in path:
        inner = model.model_fields[name].annotation
        members = [inner, *get_args(inner)]  # of "TlsConfig | None" too
        model = next(m for m in members if isinstance(m, type) and issubclass(m, BaseModel))
    return list(model.model_fields)
