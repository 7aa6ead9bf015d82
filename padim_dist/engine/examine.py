"""Find the image that kills the worker that reads it, and set it aside.

A shard whose workers keep dying is read once more, one image at a time, with a journal in storage:
before each image the journal says which one is next. So the next worker knows at which image the
last one died. An image at which two workers died is set aside; its row says so. The findings are
stored by the shard's rows, so an image is found only once.
"""

from __future__ import annotations

from collections.abc import Sequence

from distributed import Client, KilledWorker

from padim_dist.engine.source import ShardSource
from padim_dist.errors import RunError

_DEATHS = 2


def examine(client: Client, sources: Sequence[ShardSource]) -> int:
    """Examine shards on the workers; return the number of images that were set aside.

    Raises
    ------
    RunError
        If workers keep dying and no single image is the cause.
    """
    found = 0
    for source in sources:
        for _ in range(source.shard.images + 1):
            future = client.submit(examine_shard, source, pure=False, priority=1)
            try:
                found += future.result()
                break
            except KilledWorker:
                continue  # the next worker goes on from the journal
            finally:
                future.release()
        else:
            raise RunError(
                f"shard {source.shard.shard} of the manifest kills every worker that reads it, "
                "image by image. Check the workers' memory limits and their logs"
            )
    return found


def examine_shard(source: ShardSource) -> int:
    """Task: load the images of a shard one by one; return how many were set aside."""
    folder, journal_path = source.workspace.folder, f"{source.set_aside_path}.journal"
    rows = source.read()
    journal = folder.find_json(journal_path)
    if journal is None:
        journal = {"next": 0, "deaths": 0, "refused": {}}
    else:  # the worker that wrote it died at that image
        journal["deaths"] += 1
        if journal["deaths"] >= _DEATHS:
            journal["refused"][rows[journal["next"]].image_id] = (
                f"reading it killed {_DEATHS} workers, most likely because memory ran out; it is "
                f"set aside until {source.workspace.at(source.set_aside_path)} is removed"
            )
            journal.update(next=journal["next"] + 1, deaths=0)
    for place in range(journal["next"], len(rows)):
        deaths = journal["deaths"] if place == journal["next"] else 0
        journal.update(next=place, deaths=deaths)
        folder.put_json(journal_path, journal)
        source.reading.reader.load(rows[place])
    folder.put_json(source.set_aside_path, journal["refused"])
    folder.remove(journal_path)
    return len(journal["refused"])
