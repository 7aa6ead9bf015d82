"""Compare the stored results of a shard with results of scoring it again: pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from padim_dist.core.status import CHANGED, SCORED, UNSETTLED

Row = Mapping[str, Any]

SAME_EVERYWHERE = (
    *("uri", "member", "etag", "group", "split", "label", "status", "width", "height"),
    *("left_out", "heatmap_row", "shard", "run_id", "model_id"),
)
"""Columns that are the same on every processor."""
SAME_BITS = (
    *("error", "score", "p_value", "p_extrapolated", "resolution", "peak_y", "peak_x"),
    *("score_fine", "score_middle", "score_coarse", "shift_y", "shift_x", "angle", "aligned"),
)
"""Columns that are the same bit for bit only with the same processor and software."""
_NOT_COMPARABLE = {CHANGED, *UNSETTLED}


@dataclass(frozen=True)
class Closeness:
    """How close results must be: relative differences of scores and of p-values.

    Examples
    --------
    >>> Closeness.of("float32").are_close(10.0, 10.0005)
    True
    """

    score: float
    p_value: float

    @classmethod
    def of(cls, precision: str) -> Closeness:
        """Return what is allowed between processors for a precision of the trunk.

        Measured: 6e-6 in float32, 1.5 % in bfloat16 (docs/operations.md).
        """
        return cls(1e-4, 0.05) if precision == "float32" else cls(0.05, 0.5)

    def are_close(self, a: float | None, b: float | None) -> bool:
        """Return whether two scores are close; None is close only to None."""
        if a is None or b is None:
            return a is b
        return math.isclose(a, b, rel_tol=self.score, abs_tol=self.score)

    def are_close_p_values(self, a: Row, b: Row) -> bool:
        """Return whether the p-values of two rows are close, given the step of their sample."""
        p, q = a.get("p_value"), b["p_value"]
        if p is None or q is None:
            return p is q
        step = 2 * (b["resolution"] or 0.0)
        return math.isclose(p, q, rel_tol=self.p_value, abs_tol=step)


@dataclass(frozen=True)
class Difference:
    """What differs: a file or rows of a table, and in which image.

    Attributes
    ----------
    file : str
        Path of the file, or of the folder of a table, in the folder of the run.
    image : str or None
        Address of the image; None if it is not about one image.
    found : str
        What differs.
    """

    file: str
    image: str | None
    found: str


class ShardComparison:
    """Compares a shard with itself, scored again.

    Parameters
    ----------
    stored, again : Table
        Its score rows: as stored, and as they are now.
    closeness : Closeness or None
        None if the bits must be the same.

    Attributes
    ----------
    differences : list of Difference
        What differs.
    changed : list of str
        Images that cannot be compared, since they have changed or cannot be reached.
    unsettled : list of str
        Images that can be read now, and whose rows say that they could not be reached.
    rows : int
        Rows that were compared.
    """

    def __init__(self, stored: pa.Table, again: pa.Table, closeness: Closeness | None) -> None:
        self._closeness = closeness
        self.differences: list[Difference] = []
        self.changed: list[str] = []
        self.unsettled: list[str] = []
        rows = stored.to_pylist()
        self._stored = {row["image_id"]: row for row in rows}
        self._again = {row["image_id"]: row for row in again.to_pylist()}
        counts = Counter(row["image_id"] for row in rows)
        for image_id, count in counts.items():
            if image_id not in self._again:
                self._add("scores", self._stored[image_id], "the manifest lacks this image")
            elif count > 1:
                self._add("scores", self._stored[image_id], f"{count} rows instead of one")
        for image_id, row in self._again.items():
            if image_id not in self._stored:
                self._add("scores", row, "its row is missing")
        self._compared = [id_ for id_ in self._again if self._compare(id_)]
        self.rows = len(self._compared)

    def _compare(self, image_id: str) -> bool:
        """Compare the rows of an image; return whether they could be compared."""
        now, then = self._again[image_id], self._stored.get(image_id)
        if then is None:
            return False
        if now["status"] != then["status"] and now["status"] in _NOT_COMPARABLE:
            self.changed.append(_name(now))
            return False
        if then["status"] in UNSETTLED and now["status"] != then["status"]:
            # It can be true, and it can hide a result.
            self.unsettled.append(_name(now))
            return False
        if now["status"] == then["status"] and now["status"] in _NOT_COMPARABLE:
            return True
        # An image that is said to be changed, and has the etag of then, is a difference.
        names = [name for name in SAME_EVERYWHERE if name in then]
        if self._closeness is None:
            names += [name for name in SAME_BITS if name in then]
        if differing := [name for name in names if now[name] != then[name]]:
            self._add("scores", now, _columns(differing, then, now))
        elif self._closeness and not self._are_close(then, now):
            self._add("scores", now, _columns(["score", "p_value"], then, now))
        return True

    def _are_close(self, then: Row, now: Row) -> bool:
        assert self._closeness is not None
        names = ("score", "score_fine", "score_middle", "score_coarse")
        return self._closeness.are_close_p_values(then, now) and all(
            self._closeness.are_close(then[name], now[name]) for name in names if name in then
        )

    def compare_heatmaps(
        self,
        stored: npt.NDArray[np.float32],
        again: npt.NDArray[np.float32],
        order: Mapping[str, int],
    ) -> None:
        """Compare heatmaps (n, h, w); `order` has the place of each image in them."""
        for image_id in self._scored():
            a, b = stored[order[image_id]], again[order[image_id]]
            if self._closeness is None:
                same = np.array_equal(a, b, equal_nan=True)
            else:
                allowed = self._closeness.score + 2**-10  # a step of float16
                same = np.allclose(a, b, rtol=allowed, atol=allowed, equal_nan=True)
            if not same:
                is_alike = np.array_equal(np.isfinite(a), np.isfinite(b))
                worst = float(np.nanmax(np.abs(a - b))) if is_alike else math.inf
                found = f"its heatmap differs, by up to {worst:.3g}"
                self._add("heatmaps", self._again[image_id], found)

    def compare_regions(self, stored: pa.Table, again: pa.Table, expected: Collection[str]) -> None:
        """Compare regions bit for bit; images in `expected` must have some."""
        then, now = _by_image(stored), _by_image(again)
        for image_id in self._scored():
            row = self._again[image_id]
            if image_id in then and then[image_id] != _same_columns(now.get(image_id, []), stored):
                self._add("regions", row, "its regions differ")
            elif image_id not in then and image_id in expected:
                self._add("regions", row, "its regions are missing")
        for image_id in then.keys() - self._again.keys():
            self._add("regions", then[image_id][0], "the manifest lacks this image")

    def _scored(self) -> list[str]:
        """Return the images that are scored both times."""
        return [
            image_id
            for image_id in self._compared
            if self._again[image_id]["status"] == self._stored[image_id]["status"] == SCORED
        ]

    def _add(self, file: str, row: Row, found: str) -> None:
        self.differences.append(Difference(file, _name(row), found))


def _name(row: Row) -> str:
    return f"{row['uri']} ({row['member']})" if row["member"] else str(row["uri"])


def _columns(names: list[str], then: Row, now: Row) -> str:
    return ", ".join(f"{name} is {then.get(name)!r} instead of {now[name]!r}" for name in names)


def _by_image(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Return the regions of each image, in the order of their numbers."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.sort_by("region").to_pylist():
        found.setdefault(row["image_id"], []).append(row)
    return found


def _same_columns(rows: list[dict[str, Any]], table: pa.Table) -> list[dict[str, Any]]:
    """Return rows with the columns that a table has: earlier versions had fewer."""
    return [{name: row[name] for name in table.column_names if name in row} for row in rows]
