"""The terminal of a command: lines, tables and pictures for people."""

from __future__ import annotations

import dataclasses
import re
import shlex
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    header, cells : str, sequence of str
        Heading, and the text of each row.
    is_right : bool
        Whether it is aligned to the right, as numbers are.
    folds : bool
        Whether its cells may be folded: long names.
    """

    header: str
    cells: Sequence[str]
    is_right: bool = True
    folds: bool = False

    def broken_header(self) -> str:
        r"""Return the header in lines, no longer than the longest cell or word of it.

        Examples
        --------
        >>> Column("score at best F1", ["104.31"]).broken_header().split("\n")
        ['score', 'at', 'best', 'F1']
        """
        words = self.header.split()
        return "\n".join(textwrap.wrap(self.header, max(map(len, [*words, *self.cells]))))


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
        columns = []
        for name in (field.name for field in dataclasses.fields(items[0])) if items else ():
            values = [getattr(item, name) for item in items]
            if name in hidden or all(value in (None, "") for value in values):
                continue
            cells = [visible(_cell(value)) for value in values]
            is_right = any(map(is_number, values))
            columns.append(Column(_title(name), cells, is_right, name in _FOLD))
        self.columns(title, columns)

    def columns(self, title: str, columns: Sequence[Column], summary: bool = False) -> None:
        """Print columns of one length; with `summary` the last row is set apart.

        In a narrow terminal headers are broken at spaces, and long names are folded; all else stays
        whole. A terminal that is too narrow for that gets a block of lines for each row.
        """
        rows = list(zip(*(column.cells for column in columns), strict=True))
        if not rows:
            return
        for headers in (
            [column.header for column in columns],
            [column.broken_header() for column in columns],
        ):
            table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            least = 1
            for header, column in zip(headers, columns, strict=True):
                width = max(map(cell_len, (*header.split("\n"), *column.cells)))
                least += 2 + (min(width, _FOLDED) if column.folds else width)
                table.add_column(
                    header,
                    justify="right" if column.is_right else "left",
                    overflow="fold",
                    no_wrap=not column.folds,
                    min_width=None if column.folds else width,
                )
            for number, row in enumerate(rows, start=1):
                is_next_last = summary and number == len(rows) - 1
                table.add_row(*map(Text, row), end_section=is_next_last)
            if self.grid(table, least):
                return
        self.out.print(Text(title, "italic"))
        self.records([column.header for column in columns], rows)

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
                lines = value.replace("\n", f"\n{'':20}")
                self.out.print(f"{name:>18}  {lines}", **PLAIN)


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
