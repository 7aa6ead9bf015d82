"""Finding the image that kills the worker that reads it, and setting it aside.

A shard whose workers keep dying is read once more, one image at a time, with a journal
in storage: before each image the journal says which one is next. Whoever takes over from
a dead worker finds there where it died. An image at which two workers died is set aside;
its row says so. What was found is kept by the shard's rows, so it is found once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distributed import Client, KilledWorker

from padim_dist.archive.reading.reader import ImageReader
from padim_dist.errors import RunError
from padim_dist.storage import Folder
from padim_dist.store.manifests import Shard, read_shard
from padim_dist.store.workspace import Workspace, content_id

_DEATHS = 2


@dataclass(frozen=True)
class Examination:
    """A shard to be read carefully.

    Attributes
    ----------
    workspace : Folder
        Where the findings are kept.
    snapshot : str
        The manifest.
    shard : Shard
        Of the manifest.
    reader : ImageReader
        Reads its images.
    """

    workspace: Folder
    snapshot: str
    shard: Shard
    reader: ImageReader

    @property
    def path(self) -> str:
        """Where the findings are: of these very rows, read with this limit of pixels."""
        content = {"rows": self.shard.digest, "max_pixels": self.reader.max_pixels}
        return Workspace(self.workspace).set_aside(content_id(content))

    @property
    def journal(self) -> str:
        """Where the examination stands."""
        return f"{self.path}.journal"

    def rows(self) -> list[dict[str, Any]]:
        """Manifest rows; those that were set aside have a key ``refused`` with the reason."""
        rows = read_shard(self.workspace, self.snapshot, self.shard.shard)
        refused = self.workspace.find_json(self.path) or {}
        for row in rows:
            if row["image_id"] in refused:
                row["refused"] = refused[row["image_id"]]
        return rows


def examine(client: Client, examinations: Sequence[Examination]) -> int:
    """Examine shards on the workers; the number of images that were set aside.

    Raises
    ------
    RunError
        If workers die on and on without an image that could be blamed.
    """
    found = 0
    for examination in examinations:
        for _ in range(examination.shard.images + 1):
            future = client.submit(examine_shard, examination, pure=False, priority=1)
            try:
                found += future.result()
                break
            except KilledWorker:
                continue  # the journal has come further
            finally:
                future.release()
        else:
            raise RunError(
                f"shard {examination.shard.shard} of the manifest kills every worker that reads "
                "it, image by image. Look at the workers' memory limits and their logs"
            )
    return found


def examine_shard(examination: Examination) -> int:
    """Task: load the images of a shard one by one; how many had to be set aside."""
    folder = examination.workspace
    rows = read_shard(folder, examination.snapshot, examination.shard.shard)
    journal = folder.find_json(examination.journal)
    if journal is None:
        journal = {"next": 0, "deaths": 0, "refused": {}}
    else:  # whoever wrote it died at that image
        journal["deaths"] += 1
        if journal["deaths"] >= _DEATHS:
            row = rows[journal["next"]]
            journal["refused"][row["image_id"]] = (
                f"reading it killed {_DEATHS} workers, most likely for want of memory; it is set "
                f"aside until {folder.at(examination.path)} is removed"
            )
            journal.update(next=journal["next"] + 1, deaths=0)
    for place in range(journal["next"], len(rows)):
        deaths = journal["deaths"] if place == journal["next"] else 0
        journal.update(next=place, deaths=deaths)
        folder.put_json(examination.journal, journal)
        examination.reader.load(rows[place])
    folder.put_json(examination.path, journal["refused"])
    folder.remove(examination.journal)
    return len(journal["refused"])
