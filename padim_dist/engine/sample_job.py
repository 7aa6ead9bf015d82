"""Reading a few images on workers, for the driver: a damaged file may end the process it is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from padim_dist.archive.reading.ahead import read_ahead
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.engine.source import ShardSource
from padim_dist.engine.task import Report


@dataclass(frozen=True)
class Sampled:
    """Images that a task has read, with pixels: a sample is at most a few dozen.

    Attributes
    ----------
    images : list of LoadedImage
        In the order of the shard's rows, with their pixels or the reason why there are none.
    """

    images: list[LoadedImage]

    @property
    def done(self) -> int:
        """Images that were tried."""
        return len(self.images)

    @property
    def failed(self) -> int:
        """Images without pixels."""
        return sum(image.pixels is None for image in self.images)


@dataclass(frozen=True)
class SampleJob:
    """What a worker needs to read some images of one shard.

    Attributes
    ----------
    source : ShardSource
        The shard, and how its images are read.
    images : tuple of str
        Ids of the images.
    """

    source: ShardSource
    images: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the task: number of the shard."""
        return f"sample of shard {self.source.shard.shard}"

    @property
    def size(self) -> int:
        """Images to read."""
        return len(self.images)

    @property
    def sources(self) -> Sequence[ShardSource]:
        """The shard."""
        return [self.source]

    def find(self) -> Sampled | None:
        """Return None: what it reads is not kept."""
        return None


def read_sample(job: SampleJob, report: Report) -> Sampled:
    """Task: read some images of a shard; those that were set aside have no pixels."""
    wanted, reading, images = {*job.images}, job.source.reading, list[LoadedImage]()
    rows = [row for row in job.source.rows() if _id(row) in wanted]
    for image in read_ahead(rows, reading, reading.requests):
        images.append(image)
        report(len(images), sum(image.pixels is None for image in images))
    return Sampled(images)


def _id(row: ImageRow | RefusedRow) -> str:
    return row.row.image_id if isinstance(row, RefusedRow) else row.image_id
