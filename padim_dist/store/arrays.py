"""Zarr groups and arrays of a workspace. Zarr is imported at the first use.

Chunks and attributes have checksums, so that a changed bit is an error and never another number.
Arrays and attributes of earlier versions have none, and are read as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

from padim_dist.errors import DamagedFileError, PadimDistError, first_line
from padim_dist.store.records import checked, with_checksum
from padim_dist.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy.typing as npt
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

Mode = Literal["r", "r+", "a", "w"]
_OF_CONTENT = {"builtins", "json", "numcodecs", "numpy", "zarr", "zipfile", "zlib"}
"""Packages whose errors, apart from OSError, are about the content of a file."""


@cache
def _zarr() -> Any:
    import zarr

    # Many tasks read and write at the same time: keep the concurrency of each low.
    zarr.config.set({"async.concurrency": 4, "threading.max_workers": 4})
    return zarr


def compressors() -> tuple[BloscCodec, Crc32cCodec]:
    """Return Blosc-zstd with byte shuffle, which compresses these floats best, and a checksum."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    return BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()


def open_zarr_group(workspace: Workspace, path: str, mode: Mode) -> zarr.Group:
    """Open a group by its URL; Zarr makes its own file-system instance.

    Raises
    ------
    FileNotFoundError
        In mode ``r`` or ``r+``, if the group does not exist.
    """
    store, options = store_at(workspace, path)
    return zarr_group(store, mode, options)


def zarr_group(store: Any, mode: Mode, options: dict[str, Any] | None = None) -> zarr.Group:
    """Open a group of a store, with the errors of `open_zarr_group`."""
    group: zarr.Group = _zarr().open_group(
        store, mode=mode, storage_options=options, use_consolidated=False, zarr_format=3
    )
    return group


def store_at(workspace: Workspace, path: str) -> tuple[Any, dict[str, Any] | None]:
    """Return the store of a group, for Zarr and xarray, and its options."""
    folder = workspace.folder
    if folder.is_local:
        # Not a path as text: in it "::" would be a chain of file systems.
        return _zarr().storage.LocalStore(folder.at(path)), None
    if folder.url.startswith(("abfs://", "abfss://", "az://")):
        from padim_dist.store.azure import azure_store  # imports Zarr

        return azure_store(folder.at(path), folder.protocol_options), None
    return folder.at(path), folder.protocol_options


def open_array(workspace: Workspace, path: str, name: str, mode: Mode) -> zarr.Array[Any]:
    """Open an array of a group, with the errors of `open_zarr_group`."""
    return child_array(open_zarr_group(workspace, path, mode), name)


def create_array(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: str, **options: Any
) -> None:
    """Create an array that is compressed, with NaN where nothing is written."""
    options |= {"compressors": compressors(), "fill_value": float("nan")}
    group.create_array(name, shape=shape, dtype=dtype, **options)


def create_uncompressed(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    chunk: tuple[int, ...],
    shard: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    """Create an array without compression (see docs/architecture.md), in Zarr shards if asked."""
    from zarr.codecs import Crc32cCodec

    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunk,
        shards=shard,
        compressors=Crc32cCodec(),
        config={"write_empty_chunks": True},  # no search for empty ones
        fill_value=float("nan"),
    )


@contextmanager
def reports_array_damage(file: str, advice: str) -> Iterator[None]:
    """Turn errors of Zarr and its codecs inside the block into a `DamagedFileError`.

    Errors of the store stay what they are, except that what should be there is not. Clients of
    stores have kinds of their own (a body that was cut off, no connection): they become OSError.
    """
    try:
        yield
    except DamagedFileError as error:
        raise error.advised(advice) from None
    except FileNotFoundError as error:
        raise DamagedFileError(file, f"a file of it is missing ({error})", advice) from None
    except KeyError as error:  # an array or an attribute
        raise DamagedFileError(file, f"it has no {error}", advice) from None
    except (PadimDistError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = first_line(error).rstrip(".")
        if type(error).__module__.partition(".")[0] not in _OF_CONTENT:
            raise OSError(f"{file} cannot be read: {reason}") from error
        raise DamagedFileError(file, reason, advice) from error


def put_attributes(group: zarr.Group, values: Mapping[str, Any]) -> None:
    """Write the attributes of a group, with a checksum."""
    group.attrs.put(with_checksum(values))


def read_attributes(group: zarr.Group, file: str) -> dict[str, Any]:
    """Return the attributes of a group; `file` is its URL, for the message.

    Raises
    ------
    DamagedFileError
        If they do not match their checksum.
    """
    return checked(dict(group.attrs), f"{file}/zarr.json")


def child_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return an array of a group."""
    return cast("zarr.Array[Any]", group[name])
