"""Small JSON files as dataclasses: the only place that decides what a damaged one is.

Fields that this version does not know are ignored: a later version wrote them. A field that is
missing takes its default. A missing field without a default, or a value of another type, makes the
file damaged, as content that is no JSON object does. Each kind of file has an owner in this folder.
The owner says what to do about a damaged file, and chooses what happens:

- `read_record`, `find_record`: the error names the file. For what cannot be made again.
- `find_receipt`: the file is removed, with a warning, and its work is done again.
- `unless_damaged`: one of many is left out, with a warning, and the others go on.

Attributes in Zarr have a checksum beside them, so that a changed bit is never another number.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder

R = TypeVar("R")
_CHECKSUM = "checksum"
logger = logging.getLogger("padim_dist")


def make_record(kind: type[R], values: Mapping[str, Any], file: str, advice: str = "") -> R:
    """Return values of a file as a dataclass.

    Raises
    ------
    DamagedFileError
        If a field is missing or has another type.
    """
    try:
        adapter: TypeAdapter[R] = _adapter(kind)  # type: ignore[arg-type]
        return adapter.validate_python(values)
    except ValidationError as error:
        first, *more = error.errors(include_url=False, include_context=False, include_input=False)
        place = ".".join(str(part) for part in first["loc"])
        found = f"{place}: {first['msg']}" if place else first["msg"]
        found += f", and {len(more)} more faults" if more else ""
        raise DamagedFileError(file, found, advice) from None


def read_record(folder: Folder, path: str, kind: type[R], advice: str = "") -> R:
    """Read a small file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DamagedFileError
        If it is damaged; `advice` is the end of the message.
    """
    try:
        return make_record(kind, folder.read_json(path), folder.at(path))
    except DamagedFileError as error:
        raise error.advised(advice) from None


def find_record(folder: Folder, path: str, kind: type[R], advice: str = "") -> R | None:
    """Read a small file; None where there is none. Raises `DamagedFileError`."""
    try:
        return read_record(folder, path, kind, advice)
    except (FileNotFoundError, NotADirectoryError):
        return None


def find_receipt(folder: Folder, path: str, kind: type[R]) -> R | None:
    """Read a receipt whose work can be done again; None where there is none, or a damaged one.

    A damaged one is removed, since the new one is only written where there is none.
    """
    try:
        return find_record(folder, path, kind)
    except DamagedFileError as error:
        logger.warning(
            "%s is damaged: %s. It is removed, and its work done again", error.file, error.found
        )
        folder.remove(path)
        return None


def unless_damaged(read: Callable[[], R], otherwise: str = "it is left out") -> R | None:
    """Return what `read` returns; None, with a warning, if its file is damaged."""
    try:
        return read()
    except DamagedFileError as error:
        logger.warning("%s is damaged: %s; %s", error.file, error.found, otherwise)
        return None


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with their checksum in the field ``checksum``."""
    return {**values, _CHECKSUM: _checksum(values)}


def checked(values: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Return values without their checksum; values that never had one are not checked.

    Raises
    ------
    DamagedFileError
        If the checksum is another one.
    """
    rest = {name: value for name, value in values.items() if name != _CHECKSUM}
    found = values.get(_CHECKSUM)
    if found is not None and found != _checksum(rest):
        raise DamagedFileError(file, "its values do not match their checksum")
    return rest


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
