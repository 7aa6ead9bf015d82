"""Addresses of files: whether one lies below another, and where a moved one is now."""

from __future__ import annotations

import os
import posixpath
from urllib.parse import unquote

from padim_dist.storage import local_path

_SAME = {"s3a": "s3", "gcs": "gs"}
_WEB = ("http", "https")


def elements(address: str) -> tuple[str, ...]:
    """Return the protocol of an address and the elements of its path, without ``.`` and ``..``.

    Symbolic links are not resolved. Of ``http`` addresses the password and the query are left out.

    Examples
    --------
    >>> elements("s3a://bucket/a/../b/"), elements("/data//a")
    (('s3', 'bucket', 'b'), ('', 'data', 'a'))
    """
    protocol, colon, path = local_path(address).partition("://")
    if not colon:
        protocol, path = "", protocol
    protocol = protocol.lower()
    if protocol in _WEB:
        path = path.partition("?")[0]
        host, slash, rest = path.partition("/")
        path = host.rpartition("@")[2].lower() + slash + rest
    path = posixpath.normpath(f"/{path}")
    return _SAME.get(protocol, protocol), *filter(None, path.split("/"))


def path_below(address: str, folder: str) -> str | None:
    """Return the path of an address inside a folder, ``""`` for the folder; None if outside.

    Examples
    --------
    >>> path_below("s3://bucket/a/b.jpg", "s3://bucket"), path_below("s3://bucket-2", "s3://bucket")
    ('a/b.jpg', None)
    """
    inner, outer = elements(address), elements(folder)
    return "/".join(inner[len(outer) :]) if inner[: len(outer)] == outer else None


def lies_below(address: str, folder: str) -> bool:
    """Return whether an address leads to something inside a folder, and cannot lead elsewhere.

    A web server decodes ``%2e%2e``, and fsspec reads ``::`` as a chain of addresses.

    Examples
    --------
    >>> lies_below("http://host/photos/a.jpg", "http://host/photos")
    True
    >>> lies_below("http://host/photos/%2e%2e/a.jpg", "http://host/photos")
    False
    """
    is_remote = "://" in local_path(address)
    if is_remote and "::" in address:
        return False
    inside = bool(path_below(address, folder))
    return inside and (not is_remote or bool(path_below(unquote(address), unquote(folder))))


def real_path_below(address: str, folder: str) -> str | None:
    """Return `path_below`, with the symbolic links of local paths resolved."""
    return path_below(
        *(one if "://" in one else os.path.realpath(one) for one in (address, folder))
    )


def present_path(address: str, former: str | None, now: str) -> str:
    """Return `local_path` of an address, below `now` if it is below a former folder.

    Examples
    --------
    >>> present_path("/old/a.jpg", "/old", "s3://new"), present_path("/old/a.jpg", None, "/new")
    ('s3://new/a.jpg', '/old/a.jpg')
    """
    path = local_path(address)
    if former is None or path.startswith(f"{now}/") or path == now:
        return path
    is_inside = path == former or path.startswith(f"{former}/")
    return now + path[len(former) :] if is_inside else path
