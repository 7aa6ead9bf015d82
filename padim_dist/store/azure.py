"""Zarr's store in Azure Blob Storage, which cannot read the end of a file. It imports Zarr."""

from __future__ import annotations

from typing import Any

from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore


class AzureStore(FsspecStore):
    """Asks for the size of a file before it reads the end: the index of a Zarr shard.

    Azure has no range of the last bytes, and adlfs sends a negative offset.
    """

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a file, or a range of it; None if there is none."""
        if isinstance(byte_range, SuffixByteRequest):
            try:
                size = int((await self.fs._info(f"{self.path}/{key}"))["size"])
            except self.allowed_exceptions:
                return None
            byte_range = RangeByteRequest(max(size - byte_range.suffix, 0), size)
        return await super().get(key, prototype, byte_range)


def azure_store(url: str, options: dict[str, Any]) -> AzureStore:
    """Return the store at an address; listings, and so sizes, are not cached."""
    return AzureStore.from_url(url, {**options, "use_listings_cache": False})  # type: ignore[return-value]
