"""Results for people, in a terminal."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

_FOR_PROGRAMS = ("increment", "changes", "p_extrapolated", "peak_at")
_FOLD = ("note", "image", "box")
_RECORDS = 20
"""Rows of a query that is shown with a line a value."""
_PLAIN: Any = {"highlight": False, "markup": False, "soft_wrap": True}
_FIGURES = ("image_auroc", "pixel_auroc", "pro")


def print_result(result: Any, console: Console) -> None:
    """Print a result of a public function."""
    values = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    if "columns" in values:
        _print_query(values, console)
        return
    for name, value in values.items():
        if name == "groups" and value and dataclasses.is_dataclass(next(iter(value.values()))):
            console.print(_figures(value, values.get("mean")))
        elif name == "findings":
            console.print(_findings(value))
        elif name == "nights":
            for night in value:
                _night(night, console)
        elif isinstance(value, list) and value and dataclasses.is_dataclass(value[0]):
            console.print(_list(name, value))
        elif name == "notes":
            for note in value:
                console.print(f"{'note':>18}  {note}", **_PLAIN, style="yellow")
        elif name not in ("mean", "warnings") and value not in (None, []):
            console.print(f"{name.replace('_', ' '):>18}  {_text(value)}", **_PLAIN)


def _print_query(values: Mapping[str, Any], console: Console) -> None:
    """Rows of a query as they come, or where they went."""
    if values["written"] is not None:
        if values["file"]:
            console.print(f"{values['written']:,} rows written to {values['file']}", **_PLAIN)
        return
    columns, rows = values["columns"], values["rows"]
    table = Table(box=SIMPLE_HEAD)
    for number, name in enumerate(columns):
        first = next((row[number] for row in rows if row[number] is not None), None)
        number_like = isinstance(first, (int, float)) and not isinstance(first, bool)
        table.add_column(escape(name), justify="right" if number_like else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_value(value)) for value in row))
    roomy = console.options.update(max_width=100_000)
    if Measurement.get(console, roomy, table).maximum <= console.width:
        console.print(table)
    else:
        # Too wide to read as one: a line a value.
        rows = rows[:_RECORDS]
        for number, row in enumerate(rows, start=1):
            console.rule(f"row {number}", align="left", style="dim")
            for name, value in zip(columns, row, strict=True):
                console.print(f"{name:>18}  {_value(value)}", **_PLAIN)
    if values["more"] or len(rows) < len(values["rows"]):
        console.print(f"the first {len(rows)} rows; --format csv gives all", **_PLAIN)


def _value(value: Any) -> str:
    """A value of a query: null is a dash, numbers are as they are, times to the second."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return re.sub(r"^([\d-]{10})T([\d:]{8})(\.\d+)?\+00:00$", r"\1 \2", str(value))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        items = list(value.items())
        shown = ", ".join(f"{key} {_inner(inner)}" for key, inner in items[:8])
        return f"{shown}, and {len(items) - 8} more" if len(items) > 8 else shown or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        shown = ", ".join(map(_text, value[:8]))
        return f"{shown}, and {len(value) - 8} more" if len(value) > 8 else shown
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _inner(value: Any) -> str:
    return f"({_text(value)})" if isinstance(value, Mapping) else _text(value)


def _figures(groups: Mapping[str, Any], mean: Mapping[str, float | None] | None) -> Table:
    table = Table(title="Figures of merit", title_justify="left")
    table.add_column("group")
    for name in ("images", "defects", "image AUROC", "pixel AUROC", "PRO", "best F1", "at score"):
        table.add_column(name, justify="right")
    for group, figures in groups.items():
        best = figures.image_best_f1
        table.add_row(
            escape(group),
            f"{figures.images:,}",
            f"{figures.anomalous:,}",
            *(_figure(getattr(figures, name)) for name in _FIGURES),
            "-" if best is None else f"{best.f1:.3f}",
            "-" if best is None else f"{best.threshold:.2f}",
        )
    if mean and len(groups) > 1:
        table.add_section()
        table.add_row("mean", "", "", *(_figure(mean[name]) for name in _FIGURES), "", "")
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _list(title: str, items: Sequence[Any]) -> Table:
    """Data classes of one kind, a row each; what is for programs, or none has, is left out."""
    names = [f.name for f in dataclasses.fields(items[0]) if f.name not in _FOR_PROGRAMS]
    names = [name for name in names if any(getattr(item, name) not in (None, "") for item in items)]
    rows = [[_cell(getattr(item, name)) for name in names] for item in items]
    table = Table(
        title=title.replace("_", " ").capitalize(),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        right = isinstance(getattr(items[0], name), (int, float))
        header = name.replace("_", " ")
        folds = name in _FOLD
        table.add_column(
            header,
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=not folds,
            # Where there is no room the long names go over several lines, and numbers stay whole.
            min_width=None if folds else max(map(len, (header, *cells))),
        )
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.4g}"
    if isinstance(value, int):
        return _text(value)
    # A time, UTC like all of them: to the minute.
    return re.sub(r"^([\d-]{10})T(\d\d:\d\d).*\+00:00$", r"\1 \2", value)


def _night(night: Any, console: Console) -> None:
    """A night: its state, why it is odd, what came, and where to look."""
    lines = [("night", f"{night.number}, of {night.day}: {night.state}")]
    lines += [("odd", reason) for reason in night.reasons]
    lines += [("images", f"{night.images:,} ({_text(night.statuses)})")]
    lines += [("model", night.model_id)]
    lines += [("highest", f"{row['score']:.1f}  {row['uri']}") for row in night.top[:3]]
    lines += [("summary", f"{night.folder}/summary.md")]
    lines += [("picture", f"{night.folder}/top.jpg")] if night.picture else []
    for name, text in lines:
        style = "yellow" if name == "odd" else None
        line = f"{name:>18}  {text}"
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def _findings(findings: Any) -> Table:
    colours = {"right": "green", "doubtful": "yellow", "wrong": "bold red"}
    table = Table(show_lines=True)
    for name in ("check", "verdict", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        verdict = f"[{colours[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(finding.check, verdict, escape(finding.found), escape(finding.remedy))
    return table
