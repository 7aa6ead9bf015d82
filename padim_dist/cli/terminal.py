"""The terminal of a command: lines, tables and pictures for people."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from padim_dist.escaping import visible

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from PIL.Image import Image

_FOLD = ("note", "image", "box")
_FOLDED = 20
"""Columns of a terminal that a long name needs at least."""
PLAIN: Any = {"highlight": False, "markup": False, "soft_wrap": True}  # text as it is
_COMMAND = re.compile(r"'(padim-dist (?!demo\b)[a-z][^']*)'")


class Terminal:
    """The terminal of a command: results on stdout (`out`), notes and errors on stderr (`err`).

    Parameters
    ----------
    config : str or None
        File that was given by ``-c``: commands in messages name it.
    """

    def __init__(self, config: str | None = None) -> None:
        self.out, self.err = Console(), Console(stderr=True)
        self._config = config

    @property
    def can_draw(self) -> bool:
        """Whether the terminal shows pictures: it is one, and true-colour."""
        return self.out.is_terminal and self.out.color_system == "truecolor"

    def draw(self, picture: Image) -> None:
        """Draw a picture, two pixels a character."""
        from rich_pixels import Pixels

        width = min(self.out.width, picture.width)
        height = min(round(picture.height * width / picture.width), 2 * max(self.out.height - 4, 8))
        width = min(width, round(picture.width * height / picture.height))
        self.out.print(Pixels.from_image(picture.resize((width, height // 2 * 2))))

    def text(self, text: str) -> str:
        """Add ``-c FILE`` to the commands in single quotes, so that they can be pasted.

        Examples
        --------
        >>> Terminal("my audit.yaml").text("no model; run 'padim-dist fit' first")
        "no model; run 'padim-dist fit -c 'my audit.yaml'' first"
        """
        config = self._config
        if config is None:
            return text

        def complete(match: re.Match[str]) -> str:
            has_config = re.search(r" (-c|--config)\b", match[1])
            return match[0] if has_config else f"'{match[1]} -c {shlex.quote(config)}'"

        return _COMMAND.sub(complete, text)

    def line(self, name: str, text: str, style: str | None = None) -> None:
        """Print a name and a text."""
        self.out.print(f"{name:>18}  {visible(self.text(text))}", style=style, **PLAIN)

    def values(self, result: DataclassInstance, **labels: str) -> None:
        """Print a line for each field of a result, and its notes.

        Data classes, None and empty lists are left out, and fields whose label is "".
        """
        for name, value in vars(result).items():
            label = labels.get(name, _title(name))
            if name == "notes":
                self.notes(value)
            elif label and value not in (None, []) and not _has_rows(value):
                self.line(label, _cell(value) if isinstance(value, str) else format_value(value))

    def notes(self, notes: Iterable[str]) -> None:
        """Print notes about a result."""
        for note in notes:
            self.line("note", note, "yellow")

    def table(
        self, title: str, items: Sequence[DataclassInstance], hidden: Collection[str] = ()
    ) -> None:
        """Print data classes of one type, one a row, without columns that are empty or hidden.

        A terminal that is too narrow gets a block of lines for each row.
        """
        if not items:
            return
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        names, columns, least = [], [], 1
        for name in (field.name for field in dataclasses.fields(items[0])):
            values = [getattr(item, name) for item in items]
            if name in hidden or all(value in (None, "") for value in values):
                continue
            cells = [visible(_cell(value)) for value in values]
            header, folds = _title(name), name in _FOLD
            names.append(header)
            columns.append(cells)
            # In a narrow terminal long names are folded; numbers stay whole.
            width = max(map(cell_len, (header, *cells)))
            least += 2 + (min(width, _FOLDED) if folds else width)
            table.add_column(
                header,
                justify="right" if any(map(is_number, values)) else "left",
                overflow="fold",
                no_wrap=not folds,
                min_width=None if folds else width,
            )
        rows = list(zip(*columns, strict=True))
        for row in rows:
            table.add_row(*map(Text, row))
        if not self.grid(table, least):
            self.out.print(Text(title, "italic"))
            self.records(names, rows)

    def grid(self, table: Table, least: int | None = None) -> bool:
        """Print a table; False, and nothing, if the terminal is too narrow for it.

        Files and pipes get tables that are as wide as they need to be. A terminal needs `least`
        columns, by default those of the table without any fold.
        """
        unlimited = self.out.options.update(max_width=100_000)
        width = Measurement.get(self.out, unlimited, table).maximum
        if not self.out.is_terminal:
            table.width = width
            self.out.print(table, crop=False)
            return True
        fits = (width if least is None else least) <= self.out.width
        if fits:
            self.out.print(table)
        return fits

    def records(self, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a block of lines for each row, with the name of each value."""
        for number, row in enumerate(rows, start=1):
            self.out.rule(f"row {number}", align="left", style="dim")
            for name, value in zip(names, row, strict=True):
                self.out.print(f"{name:>18}  {value}", **PLAIN)


def _has_rows(value: Any) -> bool:
    """Whether a value is a list or mapping of data classes."""
    values = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(values, list) and bool(values) and dataclasses.is_dataclass(values[0])


def _title(name: str) -> str:
    """Return the heading of a field; times (``indexed_at``, ``at``) are in UTC."""
    if name == "at" or name.endswith("_at"):
        name = f"{name} (UTC)"
    return name.replace("_", " ").replace("p value", "p-value")


def is_number(value: Any) -> bool:
    """Return whether a value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    """Format a value of a table: times to the minute, in UTC."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.4g}"
    if isinstance(value, str):
        return re.sub(r"^([\d-]{10})T(\d\d:\d\d).*\+00:00$", r"\1 \2", value)
    return "-" if value is None else format_value(value)


def format_value(value: Any) -> str:
    """Format a value of a line; of collections the first eight."""
    if isinstance(value, Mapping):
        nested = {k: f"({format_value(v)})" for k, v in value.items() if isinstance(v, Mapping)}
        value = [f"{k} {nested.get(k) or format_value(v)}" for k, v in value.items()] or "none"
    if isinstance(value, list):
        shown = ", ".join(map(format_value, value[:8]))
        return f"{shown}, and {len(value) - 8} more" if len(value) > 8 else shown
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
