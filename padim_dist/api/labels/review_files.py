"""Files of reviews that people write, or that the report saves: CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padim_dist.errors import RequestError
from padim_dist.pages.words import counted, listed
from padim_dist.redaction import redacted
from padim_dist.store.reviews import DEFECT, OK, VerdictName

NEEDED, OPTIONAL = ("image_id", "verdict"), ("kind", "note")
FORMAT = "reviews"
"""Value of the field ``padim_dist`` of a JSON file."""
_SHOWN = 5


@dataclass(frozen=True)
class AskedReview:
    """A review as it is asked for: `image` is an id, a unique prefix, or a path in the archive."""

    image: str
    verdict: VerdictName
    kind: str | None = None
    note: str = ""


@dataclass(frozen=True)
class ReviewFile:
    """Reviews of a file, and the run that it names, if any."""

    run: str | None
    reviews: list[AskedReview]


def asked_review(image: Any, verdict: Any, kind: Any = None, note: Any = None) -> AskedReview:
    """Return a review from values that people gave; only a defect has a kind.

    Raises
    ------
    ValueError
        If the image is empty or the verdict is neither ``ok`` nor ``defect``.
    """
    image, word = cleaned(image), cleaned(verdict).lower()
    if not image:
        raise ValueError("image_id is empty")
    if word == DEFECT:
        return AskedReview(image, DEFECT, cleaned(kind) or None, cleaned(note))
    if word == OK:
        return AskedReview(image, OK, None, cleaned(note))
    raise ValueError(f"verdict {verdict!r} is neither 'ok' nor 'defect'")


def read_review_file(path: str) -> ReviewFile:
    """Read a file of reviews; see docs/formats.md.

    Raises
    ------
    RequestError
        If it is missing, of another kind, lacks columns, or has wrong values: the message names
        the rows.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in (".csv", ".json"):
        raise RequestError(f"--from {path}: a file of reviews is a .csv or .json file")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    if file.suffix.lower() == ".csv":
        return ReviewFile(None, _checked(path, "row", enumerate(_csv_rows(path, text), start=2)))
    run, rows = _json_rows(path, text)
    return ReviewFile(run, _checked(path, "review", enumerate(rows, start=1)))


def _csv_rows(path: str, text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a CSV file; its first line names the columns."""
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = [str(name).strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        if missing := [name for name in NEEDED if name not in names]:
            hint = "; separate columns by commas" if any(s in str(names) for s in ";\t") else ""
            raise RequestError(
                f"{path} lacks {counted(len(missing), 'column')}: {listed(missing)}. It has "
                f"{listed(map(repr, names)) or 'none'}{hint}. Needed: {', '.join(NEEDED)}; "
                f"optional: {', '.join(OPTIONAL)}"
            )
        yield from reader
    except csv.Error as error:
        raise RequestError(f"{path} is not CSV: {error}") from None


def _json_rows(path: str, text: str) -> tuple[str | None, list[Any]]:
    """Return the run and the reviews of a JSON file."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {error}") from None
    kind = found.get("padim_dist") if isinstance(found, dict) else None
    if kind != FORMAT or not isinstance(found.get("reviews"), list):
        raise RequestError(
            f'{path} is no file of reviews: it needs {{"padim_dist": "{FORMAT}", "reviews": '
            '[{"image_id": ..., "verdict": "ok" or "defect"}]}, as the report saves it'
        )
    run = found.get("run")
    if run is not None and not isinstance(run, str):
        raise RequestError(f"{path}: run is {run!r}; it must be the id of a run, or null")
    return run, found["reviews"]


def _checked(path: str, noun: str, rows: Iterator[tuple[int, Any]]) -> list[AskedReview]:
    """Return the reviews of rows, or refuse the file with its wrong rows."""
    reviews, faults = [], []
    for number, row in rows:
        try:
            if not isinstance(row, Mapping):
                raise ValueError(f"{row!r:.40} is no object with {' and '.join(NEEDED)}")
            reviews.append(asked_review(*(row.get(name) for name in (*NEEDED, *OPTIONAL))))
        except ValueError as error:
            faults.append(f"{noun} {number}: {error}")
    if faults:
        raise RequestError(
            f"{path} has {counted(len(faults), f'wrong {noun}')}, nothing was written. "
            f"{listed(faults, _SHOWN)}"
        )
    if not reviews:
        raise RequestError(f"{path} has no reviews; nothing was written")
    return reviews


def cleaned(value: object) -> str:
    """Return a text without secrets, and without characters that are not UTF-8."""
    text = "" if value is None else str(value)
    return redacted(text.encode("utf-8", "replace").decode("utf-8").strip())
