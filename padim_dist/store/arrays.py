"""Opening Zarr groups by URL, inside or outside a worker."""

from __future__ import annotations

from typing import Any, Literal

import zarr
from zarr.codecs import BloscCodec

from padim_dist.storage import Folder

# Many tasks at once, each with its own reads and writes: keep Zarr's own concurrency low.
zarr.config.set({"async.concurrency": 4, "threading.max_workers": 4})


def compressor() -> BloscCodec:
    """Blosc-zstd with byte shuffle: what floats of these arrays compress best with."""
    return BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")


def open_zarr_group(folder: Folder, path: str, mode: Literal["r", "r+", "a", "w"]) -> zarr.Group:
    """Open a group; Zarr gets a URL, never one of our file-system instances.

    Raises
    ------
    FileNotFoundError
        In mode ``r`` or ``r+``, if there is none.
    """
    options: dict[str, Any] | None = None if folder.is_local else folder.protocol_options
    return zarr.open_group(
        folder.at(path), mode=mode, storage_options=options, use_consolidated=False, zarr_format=3
    )
