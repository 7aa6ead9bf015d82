"""Sections of what is computed: the archive, the model, its fit, the scores, the nights."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from padim_dist.config.base import Section
from padim_dist.core.choices import Jpeg, Precision
from padim_dist.core.geometry import InputGeometry

Size = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    BeforeValidator(lambda value: (value, value) if isinstance(value, int) else value),
]
Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
"""All of them."""


class ArchiveConfig(Section):
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
    shard_images: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Images in a shard, the unit of work and of resuming: on average, since images differ in
    size and a shard of 64 or more is cut between whole batches of 32. Auto: 512, fewer in a
    small archive."""
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


class ModelConfig(Section):
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
    shrinkage: Literal["none", "oas"] = "none"
    """``oas``: shrink every covariance towards a multiple of the identity, by a share that the
    images determine, instead of adding epsilon."""
    sigma: float = Field(4.0, ge=0)
    """Of the Gaussian filter on the anomaly map, in pixels."""
    precision: Precision = "float32"
    """Of the trunk; the statistics are always float32 and float64. ``tf32`` differs from
    ``float32`` on GPUs alone."""
    batch: int = Field(32, ge=1)
    """Images in one call of the trunk."""
    jpeg: Jpeg = "libjpeg"
    """Who decodes JPEG files: ``libjpeg`` on the processors, or ``nvjpeg`` on the workers' GPUs,
    which smooths subsampled colours less; all other files are decoded on the processors."""

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


class FitConfig(Section):
    """The fit."""

    parts: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Parts of a group that are embedded and kept apart; auto: 32, each of 256 images at least,
    of fewer in a small archive."""
    sample: int = Field(256, ge=0)
    """Normal images of each part whose embeddings are kept to calibrate with; 0: the model gives
    no p-values."""
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


class ScoreConfig(Section):
    """The scoring."""

    heatmaps: Literal["grid", "none"] = "grid"
    """``grid``: keep the patch grid of distances of every image."""
    splits: Annotated[
        tuple[Split, ...],
        Field(min_length=1),
        AfterValidator(lambda splits: tuple(sorted(set(splits), reverse=True))),
    ] = SPLITS
    """Which images are scored: by default every image of the manifest."""
    alpha: float = Field(0.001, gt=0, lt=1)
    """False alarms: an image is flagged if at most this share of normal images scores as high."""
    per_million: float | None = Field(None, gt=0, lt=1_000_000)
    """Instead of alpha: false alarms in a million normal images."""
    a_run: float | None = Field(None, gt=0)
    """Instead of alpha: false alarms in a run, as many as people can look at."""
    fdr: float | None = Field(None, gt=0, lt=1)
    """Instead of alpha: share of the flagged images of a run that may be false (Benjamini and
    Hochberg)."""
    pixel_alpha: float = Field(0.001, gt=0, lt=1)
    """How far the regions of a flagged image reach: at most this share of normal pixels is as
    high."""

    @model_validator(mode="after")
    def _one_rule(self) -> ScoreConfig:
        given = [name for name in ("per_million", "a_run", "fdr") if getattr(self, name)]
        given += ["alpha"] if "alpha" in self.model_fields_set and given else []
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(map(repr, given))} exclude each other; set one of them"
            )
        return self


class AuditConfig(Section):
    """Nightly audits: what a night shows, and when it is odd."""

    top: int = Field(10, ge=1, le=50)
    """Most anomalous images in the summary and its picture."""
    unusable: float = Field(0.05, ge=0, le=1)
    """Odd: a larger share of the images cannot be scored."""
    rise: float = Field(0.25, gt=0)
    """Odd: the median score of a group is by more than this share above what is usual."""
    alarms: float = Field(3.0, ge=1)
    """Odd: so many times as many images of a group are flagged as usual."""
    drift: float = Field(4.0, gt=0)
    """Odd: a group's mean embedding is further from the model's than usual, by so many standard
    deviations."""
    compare: int = Field(14, ge=3)
    """Earlier nights that say what is usual; fewer than three say nothing."""
