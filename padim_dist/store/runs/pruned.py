"""What `padim-dist prune` removed of a run that stays: the file ``pruned.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Pruned:
    """What was removed of a run.

    Attributes
    ----------
    removed : mapping of str to str
        Names in the folder of the run (a file, or a folder with all in it), and when each was
        removed: ISO 8601, UTC.
    """

    removed: Mapping[str, str]

    def when(self, path: str) -> str | None:
        """Return when a file was removed, given its path in the folder of the run.

        Examples
        --------
        >>> Pruned({"heatmaps.zarr": "2026-11-27T02:10:00+00:00"}).when("heatmaps.zarr/zarr.json")
        '2026-11-27T02:10:00+00:00'
        """
        return self.removed.get(path.partition("/")[0])
