"""Names of files: those that no image has (hidden, of systems), and names as text."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

_SYSTEM = frozenset(
    {
        "__macosx",  # resource forks in zip and tar files of macOS
        "network trash folder",
        "temporary items",
        "desktop.ini",  # Windows
        "thumbs.db",
        "ehthumbs.db",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",  # Linux
        "@eadir",  # Synology
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "~snapshot",  # NetApp
    }
)


def kind_of(name: str) -> str | None:
    """Return ``"hidden"`` or ``"system"`` for a name that no image has; None for any other.

    Examples
    --------
    >>> kind_of("._0001.jpg"), kind_of("Thumbs.db"), kind_of("0001.jpg"), kind_of("..")
    ('hidden', 'system', None, None)
    """
    if name.startswith(".") and name not in (".", ".."):  # object stores have keys like "a/../b"
        return "hidden"
    return "system" if name.casefold() in _SYSTEM else None


def kind_of_path(path: str) -> str | None:
    """Return `kind_of` of the first element of a path that has a kind.

    Examples
    --------
    >>> kind_of_path("cam-1/@eaDir/0001.jpg"), kind_of_path("cam-1/0001.jpg")
    ('system', None)
    """
    return next(filter(None, map(kind_of, path.split("/"))), None)


def as_text(name: str) -> str:
    r"""Return a name as UTF-8, as tables need it: other bytes as ``%XX``.

    Examples
    --------
    >>> as_text("caf\udce9.jpg"), as_text("café.jpg")
    ('caf%E9.jpg', 'café.jpg')
    """
    if is_utf8(name):
        return name
    safe = " !#$&'()*+,/:;=?@[]"
    return quote_from_bytes(name.encode("utf-8", "surrogateescape"), safe)


def is_utf8(name: str) -> bool:
    """Return whether a name can be encoded as UTF-8."""
    return name.encode(errors="replace").decode() == name
