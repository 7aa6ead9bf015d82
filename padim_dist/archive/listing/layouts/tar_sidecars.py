"""Sidecars in tar files, as in WebDataset: group, split and label of the image with their key."""

from __future__ import annotations

import json

MOST_BYTES = 2**20
"""Maximum size of a sidecar; larger ones are ignored."""


def key_of(name: str) -> tuple[str, str]:
    """Return the key and the kind of a member: its name up to and after the first dot.

    Examples
    --------
    >>> key_of("cam.1/0042.mask.png"), key_of("cam.1/0042.JPG")
    (('cam.1/0042', 'mask.png'), ('cam.1/0042', 'jpg'))
    """
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return folder + slash + stem, kind.lower()


def read_note(kind: str, data: bytes) -> dict[str, str] | None:
    """Return those of ``group``, ``split`` and ``label`` that a sidecar gives.

    Parameters
    ----------
    kind : str
        ``"json"``: an object; ``"cls"``: the label.
    data : bytes
        The sidecar.

    Returns
    -------
    dict or None
        None if it is invalid.

    Examples
    --------
    >>> read_note("json", b'{"label": "crack", "lens": 3}'), read_note("cls", b"crack")
    ({'label': 'crack'}, {'label': 'crack'})
    >>> read_note("json", b'{"split": "validation"}') is None
    True
    """
    try:
        told = json.loads(data) if kind == "json" else {"label": data.decode().strip()}
        names = ("group", "split", "label")
        note = {name: told[name] for name in names if told.get(name) not in (None, "")}
        for value in note.values():
            value.encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return note if note.get("split", "test") in ("train", "test") else None
