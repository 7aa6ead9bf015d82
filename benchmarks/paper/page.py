"""Tables of `docs/paper.md`: Markdown between markers; the prose around them stays as it is.

A table stands between ``<!-- table I -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from padim_dist.errors import RequestError
from padim_dist.local_files import write_local


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes
    ----------
    number : str
        Roman number, as in the paper.
    header : sequence of str
        Names of columns.
    rows : sequence of sequence of str
        Cells; a row shorter than the header is filled up.
    note : str
        A line below it.
    """

    number: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table in Markdown."""
        width = len(self.header)
        lines = [self.header, ["---"] * width]
        lines += [[*row, *[""] * (width - len(row))] for row in self.rows]
        text = "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)
        return f"{text}\n\n{self.note}\n" if self.note else f"{text}\n"


def percent(share: float | None) -> str:
    """Return a share in per cent with one decimal; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"


def printed(value: float | None, digits: int = 1) -> str:
    """Return a published figure as the paper printed it; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def write_tables(page: Path, tables: Iterable[Table]) -> None:
    """Replace tables of a page; those that are not given stay.

    Raises
    ------
    RequestError
        If the page has no place for a table.
    """
    text = page.read_text()
    for table in tables:
        place = re.compile(rf"(<!-- table {table.number} -->\n).*?(<!-- end -->)", re.DOTALL)
        match = place.search(text)
        if match is None:
            raise RequestError(
                f"{page} has no place for table {table.number}; add the lines "
                f"<!-- table {table.number} --> and <!-- end -->"
            )
        text = text[: match.end(1)] + table.markdown() + text[match.start(2) :]
    write_local(str(page), lambda draft: draft.write_text(text))


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
