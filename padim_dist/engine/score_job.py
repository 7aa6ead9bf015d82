"""The job of scoring a shard: what a worker needs for it."""

from __future__ import annotations

from dataclasses import dataclass

from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.archive.times import PathTime
from padim_dist.core.alarms import Alarms
from padim_dist.core.backbones.timm_models import PREFIX
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.status import NO_MODEL, UNSETTLED
from padim_dist.engine.source import ShardSource, none_can_be_reached
from padim_dist.store.manifests import Shard
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tables import ShardCounts


def packages_of(embedding: EmbeddingSpec, films: bool) -> tuple[str, ...]:
    """Return the packages that decode films and make or run a network, if there are any."""
    network = ("timm",) if embedding.trunk.backbone.startswith(PREFIX) else ()
    if embedding.engine != "torch":
        network = (embedding.engine,)  # it needs no other package once it is converted
    return (*network, *(("av",) if films else ()))


@dataclass(frozen=True)
class ScoreJob:
    """What a worker needs to score a shard.

    Attributes
    ----------
    place : int
        Position of the shard in the run, which is in the names of its files. The number in the
        manifest changes when images are added; the position does not.
    made : str
        When the model was made; see `get_gaussian`.
    heatmaps, has_model : bool
        Whether heatmaps are kept, and whether the model has the shard's group; if not, its rows
        get the status ``no_model``.
    again : bool
        Whether the shard has a table, with rows that are not settled, and is scored again if one
        of their images can be read now.
    leaves_out : bool
        Whether the model knows its images, which are then judged by all the others.
    alarms : Alarms
        The rule of the run. Regions are found in images that it is likely to flag; if it flags
        more, `padim_dist.judge` finds theirs in the kept heatmaps.
    pixel_alpha : float
        Share of normal pixels above the threshold of a region.
    time : PathTime or None
        Where the path says when an image was taken; otherwise its EXIF data do.
    films : bool
        Whether the images are frames of films.
    """

    run: Run
    model_id: str
    made: str
    snapshot: str
    shard: Shard
    place: int
    embedding: EmbeddingSpec
    sigma: float
    reading: Reading
    heatmaps: bool
    has_model: bool
    alarms: Alarms
    pixel_alpha: float
    leaves_out: bool = False
    again: bool = False
    time: PathTime | None = None
    films: bool = False

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that its results depend on, besides those that all results depend on."""
        return packages_of(self.embedding, self.films)

    @property
    def name(self) -> str:
        """Name of the task: place of the shard."""
        return f"shard {self.place}"

    @property
    def size(self) -> int:
        """Images of the shard."""
        return self.shard.images

    @property
    def sources(self) -> list[ShardSource]:
        """The shard."""
        return [ShardSource(self.run.workspace, self.snapshot, self.shard, self.reading)]

    def rows(self) -> list[ImageRow | RefusedRow]:
        """Return the rows of the shard; all are refused if the model lacks its group."""
        (source,) = self.sources
        if self.has_model:
            return source.rows()
        reason = f"model {self.model_id} has no group {self.shard.group!r}; fit one that has it"
        return [RefusedRow(row, NO_MODEL, reason) for row in source.read()]

    def find(self) -> ShardCounts | None:
        """Return the counts of the shard; None if it is not scored yet, or not settled."""
        counts = self.run.scores.find_counts(self.place)
        return None if counts and counts.unsettled and self.again else counts

    def known(self) -> dict[str, str]:
        """Return the status of each image in the shard's table, by id."""
        return self.run.scores.read_statuses(self.place)

    def is_still_unsettled(self) -> bool:
        """Return whether none of the images that the shard's table lacks can be read now."""
        lacking = {image for image, status in self.known().items() if status in UNSETTLED}
        return none_can_be_reached(self.rows(), lacking, self.reading)
