"""Results of single experiments, as small files: what is done is not computed again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from rich.console import Console

from benchmarks.paper.protocol import Figures
from padim_dist.storage import Folder
from padim_dist.store.records import find_receipt

Settings = Mapping[str, str | int | float | None]
"""All that determines a result: set, weights, sizes, seeds."""


@dataclass(frozen=True)
class Cell:
    """A result with the settings that it was made with.

    Attributes
    ----------
    settings : dict
        See `Settings`.
    figures : Figures
        The result.
    seconds : float
        How long it took; 0 of a result that was read.
    """

    settings: dict[str, str | int | float | None]
    figures: Figures
    seconds: float = 0.0


@dataclass
class Cells:
    """The results of a folder.

    Attributes
    ----------
    folder : Folder
        Where they are: one JSON file each.
    console : Console
        Where a new result is told.
    """

    folder: Folder
    console: Console = field(default_factory=Console)

    def find(self, name: str, settings: Settings) -> Figures | None:
        """Return a result; None if there is none, or one of other settings.

        A damaged file is removed with a warning.
        """
        cell = find_receipt(self.folder, _path(name), Cell)
        return cell.figures if cell and cell.settings == dict(settings) else None

    def get(self, name: str, settings: Settings, compute: Callable[[], Figures]) -> Figures:
        """Return a result, computed and written unless there is one of the same settings.

        Parameters
        ----------
        name : str
            Name of the experiment, unique in the folder.
        settings : mapping
            See `Settings`.
        compute : callable
            Makes the result.
        """
        known = self.find(name, settings)
        if known is not None:
            return known
        began = time.monotonic()
        figures = compute()
        seconds = round(time.monotonic() - began, 1)
        self.folder.put_json(_path(name), asdict(Cell(dict(settings), figures, seconds)))
        told = ", ".join(
            f"{what} {100 * value:.1f}"
            for what, value in (
                ("image", figures.image_auroc),
                ("pixel", figures.pixel_auroc),
                ("PRO", figures.pro),
            )
            if value is not None
        )
        self.console.print(f"{name}: {told} ({seconds:.0f} s)", highlight=False)
        return figures


def _path(name: str) -> str:
    return f"cells/{re.sub(r'[^A-Za-z0-9_.+-]+', '-', name)}.json"
