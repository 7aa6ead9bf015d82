"""A Zarr store that notes the digest of each file that is written. It imports Zarr."""

from __future__ import annotations

from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from padim_dist.store.runs.digests import digest_of


class RecordingStore(WrapperStore[Any]):
    """The store of a group, given the URL and options of `padim_dist.store.arrays.store_at`.

    Attributes
    ----------
    digests : dict of str to str
        SHA-256 of what was written, by key. A file that was removed, since all of its numbers are
        the fill value, is not in it.
    """

    def __init__(
        self, store: LocalStore | FsspecStore | str, options: dict[str, Any] | None = None
    ) -> None:
        found = FsspecStore.from_url(store, options) if isinstance(store, str) else store
        super().__init__(found)
        self.digests: dict[str, str] = {}

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file and note its digest."""
        await super().set(key, value)
        self.digests[key] = digest_of(value.as_buffer_like())

    async def delete(self, key: str) -> None:
        """Remove a file."""
        await super().delete(key)
        self.digests.pop(key, None)
