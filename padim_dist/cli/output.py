"""Results for people: one printer for each type of result."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from PIL.Image import Image

    from padim_dist.api.analysis.compact import CompactResult
    from padim_dist.api.analysis.compare import CompareResult
    from padim_dist.api.analysis.export import ExportResult
    from padim_dist.api.analysis.query import QueryResult
    from padim_dist.api.analysis.show import ShowResult
    from padim_dist.api.analysis.top import TopResult
    from padim_dist.api.demo import DemoResult
    from padim_dist.api.doctor import DoctorResult
    from padim_dist.api.nights.audit import AuditResult
    from padim_dist.api.nights.history import HistoryResult
    from padim_dist.api.nights.promotions import ModelsResult
    from padim_dist.api.pipeline.evaluate import EvaluateResult, GroupFigures
    from padim_dist.api.pipeline.fit import FitResult
    from padim_dist.api.pipeline.index import IndexResult
    from padim_dist.api.pipeline.score import ScoreResult
    from padim_dist.api.report.report import ReportResult
    from padim_dist.store.nights import NightSummary
    from padim_dist.store.promotions import Promotion

_FOLD = ("note", "image", "box")
_RECORDS = 20
"""Rows of a query that are shown with one value a line."""
_PLAIN: Any = {"highlight": False, "markup": False, "soft_wrap": True}
_COMMAND = re.compile(r"'(padim-dist (?!demo\b)[a-z][^']*)'")
_VERDICTS = {"ok": "[green]OK[/]", "warning": "[yellow]warning[/]", "error": "[bold red]error[/]"}


def pasteable(message: str, config: str | None) -> str:
    """Add ``-c FILE`` to the commands in a message, so that they can be pasted.

    Parameters
    ----------
    message : str
        Has commands in single quotes.
    config : str or None
        File that was given by ``-c``; None leaves the message as it is.

    Examples
    --------
    >>> pasteable("no model; run 'padim-dist fit' first", "my audit.yaml")
    "no model; run 'padim-dist fit -c 'my audit.yaml'' first"
    """
    if config is None:
        return message

    def complete(match: re.Match[str]) -> str:
        has_config = re.search(r" (-c|--config)\b", match[1])
        return match[0] if has_config else f"'{match[1]} -c {shlex.quote(config)}'"

    return _COMMAND.sub(complete, message)


class Terminal:
    """The terminal of a command: results on stdout, notes and errors on stderr.

    Parameters
    ----------
    config : str or None
        File that was given by ``-c``: commands in messages name it.

    Attributes
    ----------
    out, err : Console
        Of stdout and stderr.
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
        """Return a text whose commands can be pasted."""
        return pasteable(text, self._config)

    def line(self, name: str, text: str, style: str | None = None) -> None:
        """Print a name and a text."""
        self.out.print(f"{name:>18}  {self.text(text)}", style=style, **_PLAIN)

    def values(self, result: DataclassInstance, **labels: str) -> None:
        """Print a line for each field of a result.

        Notes, data classes, None and empty lists are left out, and fields whose label is "".
        """
        for name, value in vars(result).items():
            label = labels.get(name, _title(name))
            if label and name != "notes" and value not in (None, []) and not _has_rows(value):
                self.line(label, _cell(value) if isinstance(value, str) else _text(value))

    def notes(self, notes: Iterable[str]) -> None:
        """Print notes about a result."""
        for note in notes:
            self.line("note", note, "yellow")

    def table(
        self, title: str, items: Sequence[DataclassInstance], hidden: Collection[str] = ()
    ) -> None:
        """Print data classes of one type, one a row, without columns that are empty or hidden."""
        if not items:
            return
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        columns = []
        for name in (field.name for field in dataclasses.fields(items[0])):
            values = [getattr(item, name) for item in items]
            if name in hidden or all(value in (None, "") for value in values):
                continue
            header, cells, folds = _title(name), list(map(_cell, values)), name in _FOLD
            columns.append(cells)
            table.add_column(
                header,
                justify="right" if any(map(_is_number, values)) else "left",
                overflow="fold",
                no_wrap=not folds,
                # In a narrow terminal long names are folded; numbers stay whole.
                min_width=None if folds else max(map(len, (header, *cells))),
            )
        for row in zip(*columns, strict=True):
            table.add_row(*(escape(cell) for cell in row))
        self.out.print(table)


def print_index(result: IndexResult, terminal: Terminal) -> None:
    """Print what an archive holds, and what changed since the last index."""
    terminal.values(result, ignored="other files", number="history entry")


def print_fit(result: FitResult, terminal: Terminal) -> None:
    """Print what a fit did; its warnings are in the log."""
    terminal.values(result, warnings="")


def print_score(result: ScoreResult, terminal: Terminal) -> None:
    """Print what a score did."""
    terminal.values(result)


def print_evaluate(result: EvaluateResult, terminal: Terminal) -> None:
    """Print the evaluation metrics of a run, by group."""
    terminal.values(result, mean="")
    _print_metrics(result.groups, result.mean, terminal)


def print_report(result: ReportResult, terminal: Terminal) -> None:
    """Print where a report is."""
    terminal.values(result)


def print_audit(result: AuditResult, terminal: Terminal) -> None:
    """Print the nights that an audit finished."""
    for night in result.nights:
        _print_night(night, terminal)
    terminal.values(result)


def print_history(result: HistoryResult, terminal: Terminal) -> None:
    """Print the entries of an archive's history."""
    if not result.entries:
        terminal.notes(["the archive is not indexed yet; 'padim-dist index' does that"])
    terminal.table("History", result.entries, hidden=("increment", "changes"))


def print_models(result: ModelsResult, terminal: Terminal) -> None:
    """Print models and promotions."""
    if not result.models:
        terminal.notes(["there is no model yet; 'padim-dist fit' makes one"])
    terminal.table("Models", result.models)
    terminal.table("Promotions", result.promotions)


def print_promotion(result: Promotion, terminal: Terminal) -> None:
    """Print a promotion or a rollback."""
    terminal.values(result, number="promotion")


def print_doctor(result: DoctorResult, terminal: Terminal) -> None:
    """Print the findings."""
    table = Table(show_lines=True)
    for name in ("check", "result", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in result.findings:
        texts = [escape(terminal.text(text)) for text in (finding.found, finding.remedy)]
        table.add_row(finding.check, _VERDICTS[finding.verdict], *texts)
    terminal.out.print(table)


def print_demo(result: DemoResult, terminal: Terminal) -> None:
    """Print what the demo made."""
    terminal.values(result, mean="")
    _print_metrics(result.groups, result.mean, terminal)


def print_query(result: QueryResult, terminal: Terminal) -> None:
    """Print the rows of a query, or say where they were written; notes go to stderr."""
    out = terminal.out
    for note in result.notes:
        terminal.err.print(f"note: {terminal.text(note)}", **_PLAIN)
    if result.written is not None:
        if result.file:
            terminal.line("rows written", _text(result.written))
            terminal.line("file", result.file)
        return
    table = Table(box=SIMPLE_HEAD)
    for number, name in enumerate(result.columns):
        numbers = any(_is_number(row[number]) for row in result.rows)
        table.add_column(escape(name), justify="right" if numbers else "left", overflow="fold")
    for row in result.rows:
        table.add_row(*(escape(_value(value)) for value in row))
    shown = result.rows
    unlimited = out.options.update(max_width=100_000)
    if Measurement.get(out, unlimited, table).maximum <= out.width:
        out.print(table)
    else:  # too wide for a table
        shown = shown[:_RECORDS]
        for number, row in enumerate(shown, start=1):
            out.rule(f"row {number}", align="left", style="dim")
            for name, value in zip(result.columns, row, strict=True):
                out.print(f"{name:>18}  {_value(value)}", **_PLAIN)
    if result.more or len(shown) < len(result.rows):
        out.print(f"the first {len(shown)} rows; --format csv writes all", **_PLAIN)


def print_top(result: TopResult, terminal: Terminal) -> None:
    """Print the strongest anomalies of a run."""
    terminal.values(result)
    terminal.notes(result.notes)
    terminal.table("Anomalies", result.anomalies, hidden=("p_extrapolated", "peak_at"))


def print_show(result: ShowResult, terminal: Terminal) -> None:
    """Print the details of an image and its regions."""
    terminal.values(result, peak="peak row, column", size="height x width")
    terminal.notes(result.notes)
    terminal.table("Regions", result.regions)
    if result.status == "scored" and result.picture is None and not terminal.can_draw:
        terminal.err.print("no picture: give --out FILE, or use a true-colour terminal", **_PLAIN)


def print_compare(result: CompareResult, terminal: Terminal) -> None:
    """Print how two runs differ."""
    flags = {"flagged_a": "flagged in a", "flagged_b": "flagged in b", "new": "newly flagged"}
    terminal.values(
        result,
        both="images in both",
        only_a="only in a",
        only_b="only in b",
        spearman="rank correlation",
        **flags,
        gone="no longer flagged",
    )
    terminal.notes(result.notes)
    terminal.table("Largest changes of rank", result.moved)
    terminal.table("New anomalies", result.new_anomalies)
    terminal.table("Gone anomalies", result.gone_anomalies)
    terminal.table("Medians", result.medians)


def print_compact(result: CompactResult, terminal: Terminal) -> None:
    """Print what a compaction did."""
    terminal.values(result, before="compact before", left="skipped", files="files written")


def print_export(result: ExportResult, terminal: Terminal) -> None:
    """Print what was exported."""
    terminal.values(result)
    terminal.notes(result.notes)


def _print_metrics(
    groups: Mapping[str, GroupFigures], mean: Mapping[str, float | None], terminal: Terminal
) -> None:
    table = Table(title="Evaluation metrics", title_justify="left")
    table.add_column("group")
    for name in ("images", "defects", "image AUROC", "pixel AUROC", "PRO", "best F1"):
        table.add_column(name, justify="right")
    table.add_column("score at best F1", justify="right")
    for group, figures in groups.items():
        best = figures.image_best_f1
        table.add_row(
            escape(group),
            f"{figures.images:,}",
            f"{figures.anomalous:,}",
            *map(_metric, (figures.image_auroc, figures.pixel_auroc, figures.pro)),
            "-" if best is None else f"{best.f1:.3f}",
            "-" if best is None else f"{best.threshold:.2f}",
        )
    if len(groups) > 1:
        table.add_section()
        means = (_metric(mean[name]) for name in ("image_auroc", "pixel_auroc", "pro"))
        table.add_row("mean", "", "", *means, "", "")
    terminal.out.print(table)


def _print_night(night: NightSummary, terminal: Terminal) -> None:
    """Print the state of a night, why it is odd, its images, and where its summary is."""
    terminal.line("night", f"{night.number}, of {night.day}: {night.state}")
    for reason in night.reasons:
        terminal.line("odd", reason, "yellow")
    terminal.line("images", f"{night.images:,} ({_text(night.statuses)})")
    terminal.line("model", night.model_id)
    for row in night.top[:3]:
        terminal.line("highest", f"{row['score']:.1f}  {row['uri']}")
    terminal.line("summary", f"{night.folder}/summary.md")
    if night.picture:
        terminal.line("picture", f"{night.folder}/top.jpg")


def _has_rows(value: Any) -> bool:
    """Whether a value is a list or mapping of data classes."""
    values = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(values, list) and bool(values) and dataclasses.is_dataclass(values[0])


def _title(name: str) -> str:
    return name.replace("_", " ").replace("p value", "p-value")


def _metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _value(value: Any) -> str:
    """Format a value of a query: null as a dash, times to the second."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return re.sub(r"^([\d-]{10})T([\d:]{8})(\.\d+)?\+00:00$", r"\1 \2", str(value))


def _cell(value: Any) -> str:
    """Format a value of a table: times to the minute, in UTC."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.4g}"
    if isinstance(value, str):
        return re.sub(r"^([\d-]{10})T(\d\d:\d\d).*\+00:00$", r"\1 \2", value)
    return "-" if value is None else _text(value)


def _text(value: Any) -> str:
    """Format a value of a line; of collections the first eight."""
    if isinstance(value, Mapping):
        value = [f"{key} {_inner(inner)}" for key, inner in value.items()] or "none"
    if isinstance(value, list):
        shown = ", ".join(map(_text, value[:8]))
        return f"{shown}, and {len(value) - 8} more" if len(value) > 8 else shown
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _inner(value: Any) -> str:
    return f"({_text(value)})" if isinstance(value, Mapping) else _text(value)
