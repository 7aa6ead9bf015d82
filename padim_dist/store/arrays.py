"""Zarr groups and arrays of a workspace. Zarr is imported at the first use."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from padim_dist.store.workspace import Workspace

if TYPE_CHECKING:
    import zarr
    from zarr.codecs import BloscCodec

Mode = Literal["r", "r+", "a", "w"]


@cache
def _zarr() -> Any:
    import zarr

    # Many tasks read and write at the same time: keep the concurrency of each low.
    zarr.config.set({"async.concurrency": 4, "threading.max_workers": 4})
    return zarr


def compressor() -> BloscCodec:
    """Return Blosc-zstd with byte shuffle: of Blosc's codecs it compresses these floats best."""
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")


def open_zarr_group(workspace: Workspace, path: str, mode: Mode) -> zarr.Group:
    """Open a group by its URL; Zarr makes its own file-system instance.

    Raises
    ------
    FileNotFoundError
        In mode ``r`` or ``r+``, if the group does not exist.
    """
    folder = workspace.folder
    options: dict[str, Any] | None = None if folder.is_local else folder.protocol_options
    group: zarr.Group = _zarr().open_group(
        folder.at(path), mode=mode, storage_options=options, use_consolidated=False, zarr_format=3
    )
    return group


def open_array(workspace: Workspace, path: str, name: str, mode: Mode) -> zarr.Array[Any]:
    """Open an array of a group, with the errors of `open_zarr_group`."""
    return child_array(open_zarr_group(workspace, path, mode), name)


def child_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return an array of a group."""
    import zarr

    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def child_group(group: zarr.Group, *names: str) -> zarr.Group:
    """Return a group inside a group."""
    import zarr

    for name in names:
        inner = group[name]
        assert isinstance(inner, zarr.Group)
        group = inner
    return group
