"""Sections of the archive, fits and scores."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from padim_dist.archive.expressions import expression
from padim_dist.archive.films.every import EVERY
from padim_dist.archive.listing.layouts import LAYOUTS
from padim_dist.config.base import Section
from padim_dist.config.films import VideoConfig
from padim_dist.core.alarms import RULES

_IMAGE_ID = "[0-9a-f]{16}"
Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
"""All splits."""


class TimeConfig(Section):
    """Where the path of an image says when it was taken."""

    path: str
    """Regular expression with a group named ``time``, searched in the path inside the archive."""
    format: str
    """Format of that group, as of Python's strptime, e.g. ``%Y%m%d_%H%M%S``. A time without a zone
    (``%z``) is UTC."""

    @field_validator("path")
    @classmethod
    def _has_time(cls, value: str) -> str:
        if "time" not in expression(value).names:
            raise ValueError("needs a group named 'time', e.g. \"_(?P<time>[0-9]{8})_\"")
        return value

    @field_validator("format")
    @classmethod
    def _has_a_date(cls, value: str) -> str:
        sample = datetime(2026, 11, 27, 13, 14, 15, tzinfo=UTC)
        try:
            found = datetime.strptime(sample.strftime(value), value)
        except ValueError as error:
            raise ValueError(f"is not a format of strptime: {error}") from None
        if found.date() != sample.date():
            raise ValueError("needs year, month and day, e.g. '%Y%m%d_%H%M%S'")
        return value


class ArchiveConfig(Section):
    """The images of the archive and how they are read."""

    url: str
    """Folder of the archive: a path or any fsspec URL."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """Name by which the workspace knows the archive, so that its url may change. Null: the url. If
    an archive has moved, set this to its former url."""
    layout: str = "folder"
    """``folder``: any folders; ``mvtec``: train/good, test/*, ground_truth; ``tar``: the url is
    a folder of .tar files or one .tar file; ``table``: the url is a Parquet or CSV file with the
    columns uri, group, split, label, mask_uri; ``video``: a frame of a film (.mp4, .mkv, .avi,
    .mov) is an image."""
    video: VideoConfig | None = None
    """For the layout ``video``. Null: a frame every second."""
    group: str | None = None
    """Regular expression with a group named ``group``, searched in the path inside the archive.
    Each group has its own Gaussians. Null: one group."""
    train: str = "(^|/)(train|good|normal)/"
    """Regular expression of the paths of normal images, for the layouts ``folder`` and ``tar`` and
    for a ``table`` without a column split; of films, for the layout ``video``."""
    shard_images: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Mean number of images in a shard, the unit of work and of resuming. Images differ in size, so
    shards differ in number; from 64 on a shard is cut between whole batches of 32, or between
    blocks of 8 if a group has few shards. Auto: 512, fewer in a small archive."""
    max_pixels: int = Field(32_000_000, ge=1)
    """Most pixels of an image; larger ones get the status ``too_large``."""
    bits: Annotated[int, Field(ge=9, le=16)] | None = None
    """Bits of a sample that the camera delivers in files of 16 bits, e.g. 12: the grey level
    2^bits - 1 becomes white. Null: the range that the file states."""
    time: TimeConfig | None = None
    """Where the path says when an image was taken (column ``captured_at``). Null, or no match: the
    EXIF data of the file do. It applies to images that are scored from then on."""
    exclude: str | None = None
    """Regular expression of paths inside the archive that are not images of it. Hidden and system
    files (``.name``, ``@eaDir/``, ``Thumbs.db``) never are."""
    allow: tuple[str, ...] = ()
    """Folders outside that of the table that its rows may name (layout ``table``): absolute paths
    or URLs."""
    read_deadline: float = Field(60.0, gt=0)
    """Seconds after which a read of an image ends with the status ``timeout``."""
    decode_deadline: float = Field(60.0, gt=0)
    """Seconds after which decoding an image ends with the status ``timeout``."""

    @field_validator("layout")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in LAYOUTS:
            raise ValueError(f"is not a layout; valid are {', '.join(LAYOUTS)}")
        return value

    @field_validator("allow")
    @classmethod
    def _are_folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for folder in value:
            if not folder.startswith("/") and "://" not in folder:
                raise ValueError(
                    f"{folder!r} is neither an absolute path nor a URL; write e.g. /data/photos or "
                    "s3://bucket/photos"
                )
        return value

    @property
    def every(self) -> str:
        """Which frames of films are images."""
        return self.video.every if self.video else EVERY

    @field_validator("group", "train", "exclude")
    @classmethod
    def _compiles(cls, value: str | None, info: ValidationInfo) -> str | None:
        names = expression(value or "").names
        if info.field_name == "group" and value is not None and "group" not in names:
            raise ValueError("needs a group named 'group', e.g. \"^(?P<group>[^/]+)/\"")
        return value

    @model_validator(mode="after")
    def _films_have_a_layout(self) -> ArchiveConfig:
        if self.video is not None and self.layout != "video":
            raise ValueError("'video' is for films: set 'layout' to video, or remove it")
        return self


class FitConfig(Section):
    """The fit of a model."""

    parts: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Parts of a group, each a task; auto: 32 with at least 256 images each, fewer
    images in a small archive."""
    sample: int = Field(256, ge=0)
    """Normal images of each part whose embeddings are kept for the calibration; 0: the model gives
    no p-values."""
    window: int | None = Field(None, ge=1)
    """Number of latest entries of the archive's history (`padim-dist history`) to fit on, by their
    kept moments. Null: fit on the normal images that are in the archive now."""
    without: Annotated[
        tuple[Annotated[str, BeforeValidator(str)], ...],
        AfterValidator(lambda names: tuple(sorted(set(names)))),
    ] = ()
    """What to leave out: image ids (16 hex digits, in quotes); and of a window days
    (``2026-11-20``), entries of the history (``7``), or their shards (``7/12``)."""
    reviewed: bool = False
    """Whether reviews (`padim-dist label`) count: images that the newest one calls ok join the fit,
    those that it calls a defect leave it."""
    suspects: Literal["keep", "warn", "drop"] = "warn"
    """Normal images that all others find anomalous: say nothing (``keep``), warn of them, or drop
    them from the fit until no other one is found."""
    suspects_share: float = Field(0.2, gt=0, le=0.5)
    """Largest share of a group's images that ``suspects: drop`` drops."""

    @field_validator("without")
    @classmethod
    def _names_something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(rf"{_IMAGE_ID}|\d{{4}}-\d\d-\d\d|\d+(/\d+)?", name):
                raise ValueError(
                    f"{name!r} is neither a day (2026-11-20) nor an entry (7) nor a shard (7/12) "
                    "nor an image id (16 hex digits)"
                )
        return value

    @property
    def without_images(self) -> tuple[str, ...]:
        """The image ids of `without`."""
        return tuple(name for name in self.without if re.fullmatch(_IMAGE_ID, name))

    @property
    def without_parts(self) -> tuple[str, ...]:
        """The days, entries and shards of `without`."""
        return tuple(name for name in self.without if not re.fullmatch(_IMAGE_ID, name))

    @model_validator(mode="after")
    def _needs_window(self) -> FitConfig:
        if self.without_parts and self.window is None:
            raise ValueError(
                "'without' needs a 'window' for days, entries and shards; set that too"
            )
        return self

    @model_validator(mode="after")
    def _needs_sample(self) -> FitConfig:
        if self.sample == 0 and self.suspects == "drop":
            raise ValueError(
                "'suspects: drop' finds suspects among the images whose embeddings are kept: set "
                "'sample' to 1 or more"
            )
        return self


class ScoreConfig(Section):
    """The scoring of images."""

    heatmaps: Literal["grid", "none"] = "grid"
    """``grid``: keep the distances of the patches of every image."""
    splits: Annotated[
        tuple[Split, ...],
        Field(min_length=1),
        AfterValidator(lambda splits: tuple(sorted(set(splits), reverse=True))),
    ] = SPLITS
    """Splits to score; by default all images of the manifest."""
    alpha: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] = "auto"
    """Target share of false alarms: images with a p-value of at most this are flagged. Auto: the
    smallest share that the normal images of a group resolve, 1 / (n + 1), and 0.001 at least."""
    per_million: float | None = Field(None, gt=0, lt=1_000_000)
    """Instead of alpha: target of false alarms per million normal images."""
    false_alarms_per_run: float | None = Field(None, gt=0)
    """Instead of alpha: target of false alarms per run."""
    fdr: float | None = Field(None, gt=0, lt=1)
    """Instead of alpha: largest share of false alarms among the flagged images of a run (Benjamini
    and Hochberg)."""
    review: Annotated[int, Field(ge=1)] | None = None
    """Instead of alpha: the number of images to flag, the most anomalous ones of a run, whatever
    their p-values."""
    pixel_alpha: float = Field(0.001, gt=0, lt=1)
    """Level of the regions in a flagged image: at most this share of normal pixels reaches it."""

    @model_validator(mode="after")
    def _one_rule(self) -> ScoreConfig:
        others = RULES[1:]
        given = [name for name in others if getattr(self, name)]
        given += ["alpha"] if "alpha" in self.model_fields_set and given else []
        if len(given) > 1:
            names = " and ".join(map(repr, given))
            raise ValueError(f"{names} exclude each other; set one of them")
        return self
