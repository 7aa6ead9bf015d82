"""The results of a trial, and their differences from the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import padim_dist as padim
from padim_dist.config import Config
from tests.results import Arrays, arrays, scores

Row = dict[str, object]

_OF_THE_RUN = ("run_id",)
_OF_THE_STORE = ("uri", "etag", "run_id", "model_id")
"""A copy of the archive has other addresses and times, from which the ids are made."""


@dataclass(frozen=True)
class Outcome:
    """All results of a fit and a score.

    Attributes
    ----------
    model : mapping of str to array
        All arrays of the model.
    rows : list of dict
        The score table, sorted, without times.
    heatmaps : array
        Heatmaps of all scored images (n, h, w).
    """

    model: Arrays
    rows: list[Row]
    heatmaps: np.ndarray

    @classmethod
    def read(cls, config: Config) -> Outcome:
        """Read the results from a workspace."""
        maps = padim.open_heatmaps(config.workspace, config.storage_options)
        return cls(arrays(config), scores(config), maps["distance"].to_numpy())

    def differences(self, reference: Outcome, elsewhere: bool = False) -> list[str]:
        """List what is not bit for bit as in a reference.

        Parameters
        ----------
        reference : Outcome
            The expected results.
        elsewhere : bool
            Whether the archive is a copy in another store.
        """
        found = [
            f"model: array {name} differs"
            for name in sorted(self.model.keys() | reference.model.keys())
            if not _identical(self.model.get(name), reference.model.get(name))
        ]
        dropped = _OF_THE_STORE if elsewhere else _OF_THE_RUN
        mine, other = _by_image(self.rows, dropped), _by_image(reference.rows, dropped)
        if len(self.rows) != len(reference.rows):
            found.append(f"score table: {len(self.rows)} rows, not {len(reference.rows)}")
        found += [
            f"score table: image {image}: {mine.get(image)}, not {other.get(image)}"
            for image in sorted(mine.keys() | other.keys())
            if mine.get(image) != other.get(image)
        ]
        if not _identical(self.heatmaps, reference.heatmaps):
            found.append("heatmaps differ")
        return found


def _identical(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Return whether shape, type and bits are the same."""
    if a is None or b is None:
        return False
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _by_image(rows: list[Row], dropped: tuple[str, ...]) -> dict[object, Row]:
    return {
        row["image_id"]: {name: value for name, value in row.items() if name not in dropped}
        for row in rows
    }
