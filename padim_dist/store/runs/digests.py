"""Digests of the files of a run: SHA-256, by path in the folder of the run.

The score table of a shard, its receipt, has the digests of the shard's other files. When the run
is finished, the file ``files.json`` lists all files of all shards, and the head has the digest of
this list. ``compact.json`` has the digests of compacted files, the head those of files that a
judgement adds.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder
from padim_dist.store.records import make_record

Digests = Mapping[str, str]
"""SHA-256 of files, by path in the folder of the run."""
_KEY = b"padim_dist.files"
_ADVICE = (
    "Restore it from a copy of the workspace: without it, files of the run cannot be compared with "
    "their digests"
)


def digest_of(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of the bytes of a file, as ``sha256sum`` prints it.

    Examples
    --------
    >>> digest_of(b"")[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class ShardFiles:
    """The files of a shard.

    Attributes
    ----------
    digests : mapping of str to str
        `Digests` of the files that are known: without those of versions that kept none.
    scored_on : str or None
        Processor and software that scored it; None if an earlier version did.
    """

    digests: Digests = field(default_factory=dict)
    scored_on: str | None = None

    def in_receipt(self, table: pa.Table) -> pa.Table:
        """Return a score table with these files in its metadata."""
        known = json.dumps(asdict(self), sort_keys=True).encode()
        return table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: known})

    @classmethod
    def from_receipt(cls, schema: pa.Schema, file: str, advice: str) -> ShardFiles:
        """Return the files that a score table has in its metadata; none in earlier versions.

        Raises
        ------
        DamagedFileError
            If the metadata are no such files.
        """
        found = (schema.metadata or {}).get(_KEY)
        if found is None:
            return cls()
        try:
            return make_record(cls, json.loads(found), file, advice)
        except ValueError:  # no JSON
            raise DamagedFileError(file, "its list of files is no JSON", advice) from None

    def also(self, digests: Digests) -> ShardFiles:
        """Return these files and others."""
        return ShardFiles({**self.digests, **digests}, self.scored_on)


@dataclass(frozen=True)
class RunFiles:
    """All files of the shards of a finished run: the file ``files.json``.

    Attributes
    ----------
    digests : mapping of str to str
        `Digests`.
    scored_on : mapping of str to sequence of int
        Places of the shards by the processor and software that scored them. Shards that an earlier
        version scored are in none: their regions and heatmaps have no digests.
    """

    digests: Digests
    scored_on: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, shards: Mapping[int, ShardFiles], others: Digests) -> RunFiles:
        """Return the files of shards, by place, and other files of their run."""
        digests, scored_on = dict(others), defaultdict[str, list[int]](list)
        for place, files in sorted(shards.items()):
            digests |= files.digests
            if files.scored_on is not None:
                scored_on[files.scored_on].append(place)
        return cls(digests, dict(scored_on))

    def write(self, folder: Folder, run: str) -> str:
        """Write the list into the folder of a run; return its digest."""
        data = json.dumps(asdict(self), indent=1, sort_keys=True).encode()
        folder.put(_path(run), data)
        return digest_of(data)

    def machines(self) -> dict[int, str]:
        """Return what scored each shard whose files all have digests, by place."""
        return {place: name for name, places in self.scored_on.items() for place in places}


def find_files(folder: Folder, run: str) -> tuple[RunFiles, str] | None:
    """Return the list of a run's files and its digest, given the run's folder; None without one.

    Raises
    ------
    DamagedFileError
        If it is damaged.
    """
    path = _path(run)
    try:
        data = folder.read(path)
    except FileNotFoundError:
        return None
    try:
        values = json.loads(data)
    except ValueError:
        raise DamagedFileError(folder.at(path), "it is no JSON", _ADVICE) from None
    return make_record(RunFiles, values, folder.at(path), _ADVICE), digest_of(data)


def _path(run: str) -> str:
    return f"{run}/files.json"
