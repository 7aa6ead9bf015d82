"""Find the image that kills the worker that reads it, and set it aside.

A shard whose workers keep dying is read once more, one image at a time, with a journal in storage:
before each image the journal says which one is next. So the next worker knows at which image the
last one died. An image at which two workers died is set aside; its row says so. The findings are
stored by the shard's rows, so an image is found only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from distributed import Client, KilledWorker

from padim_dist.engine.source import ShardSource
from padim_dist.errors import RunError
from padim_dist.redaction import redacted
from padim_dist.store.records import find_receipt

_DEATHS = 2


@dataclass
class _Journal:
    """The next image to read, the workers that died at it, and the images set aside so far."""

    next: int = 0
    deaths: int = 0
    refused: dict[str, str] = field(default_factory=dict)


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
    journal = find_receipt(folder, journal_path, _Journal)
    if journal is None or not 0 <= journal.next < len(rows):
        journal = _Journal()
    else:  # the worker that wrote it died at that image
        journal.deaths += 1
        if journal.deaths >= _DEATHS:
            journal.refused[rows[journal.next].image_id] = redacted(
                f"reading it killed {_DEATHS} workers, most likely because memory ran out; it is "
                f"set aside until {source.workspace.at(source.set_aside_path)} is removed"
            )
            journal.next, journal.deaths = journal.next + 1, 0
    for place in range(journal.next, len(rows)):
        journal.deaths = journal.deaths if place == journal.next else 0
        journal.next = place
        folder.put_json(journal_path, asdict(journal))
        source.reading.reader.load(rows[place])
    folder.put_json(source.set_aside_path, journal.refused)
    folder.remove(journal_path)
    return len(journal.refused)
