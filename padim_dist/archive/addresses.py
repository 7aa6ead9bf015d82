"""Addresses of files: whether one lies below another, and where a moved one is now."""

from __future__ import annotations

import os
import posixpath
import re
from urllib.parse import quote, unquote

from padim_dist.local_files import local_path

_SAME = {"s3a": "s3", "gcs": "gs"}
_WEB = ("http", "https")
_RANGE = re.compile(r"#bytes=\d+-\d+")


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


def relocated(address: str, former: str | None, now: str) -> str:
    """Return an address below a former folder as one below the present folder, others as they are.

    Parameters
    ----------
    address : str
        A URL, a local path, or a range of a file: ``<uri>#bytes=<start>-<stop>``.
    former, now : str
        The folder (or tar file) before and now, without a trailing slash; `former` is None if it
        has not moved.

    Examples
    --------
    >>> relocated("/old/a.jpg", "/old", "s3://new"), relocated("/older/a.jpg", "/old", "s3://new")
    ('s3://new/a.jpg', '/older/a.jpg')
    >>> relocated("file:///my%20photos/a%20b.jpg", "/my photos", "/new")
    'file:///new/a%20b.jpg'
    """
    if former is None or former == now:
        return address
    if not address.startswith("file://"):
        rest = _rest(address, former)
        return address if rest is None else now.rstrip("/") + rest
    start = "file://localhost" if address.startswith("file://localhost/") else "file://"
    for written in (_quoted, str):  # listings quote names that are not UTF-8; tables may not
        rest = _rest(address.removeprefix(start), written(former))
        if rest is not None and "://" in now:
            return now + unquote(rest)
        if rest is not None:
            return start + written(now).rstrip("/") + rest
    return address


def _rest(address: str, folder: str) -> str | None:
    """Return what follows a folder in an address, None if the address is outside."""
    folder = folder.rstrip("/")
    rest = address[len(folder) :]
    is_inside = rest.startswith("/") or not rest or _RANGE.fullmatch(rest)
    return rest if is_inside and address.startswith(folder) else None


def _quoted(path: str) -> str:
    return quote(os.fsencode(path))


def present_path(address: str, former: str | None, now: str) -> str:
    """Return the `local_path` of a `relocated` address."""
    return local_path(relocated(address, former, now))
