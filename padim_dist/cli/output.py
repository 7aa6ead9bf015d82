"""Results for people: a printer for each type of result."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from padim_dist.cli.terminal import PLAIN, Column, Terminal, format_value, is_number
from padim_dist.escaping import visible, visible_lines

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from padim_dist.api.analysis.compare import CompareResult
    from padim_dist.api.analysis.query import QueryResult
    from padim_dist.api.analysis.show import ShowResult
    from padim_dist.api.analysis.suspects import SuspectImage, SuspectsResult
    from padim_dist.api.analysis.top import TopImage, TopResult
    from padim_dist.api.demo import DemoResult
    from padim_dist.api.findings import DoctorResult
    from padim_dist.api.integrity.verify import VerifyResult
    from padim_dist.api.labels.evaluate import EvaluateResult
    from padim_dist.api.labels.label import LabelResult

_RECORDS = 20
"""Rows of a query that are shown with one value a line."""
_LEAST_FOUND = 60
"""Columns of a terminal that the findings of the doctor need as a table."""
_VERDICTS = {"ok": "[green]OK[/]", "warning": "[yellow]warning[/]", "error": "[bold red]error[/]"}


def fields(**labels: str) -> Callable[[DataclassInstance, Terminal], None]:
    """Return a printer of a line for each field; see `Terminal.values` for the labels."""

    def print_fields(result: DataclassInstance, terminal: Terminal) -> None:
        terminal.values(result, **labels)

    return print_fields


def print_metrics(result: EvaluateResult | DemoResult, terminal: Terminal) -> None:
    """Print a result with evaluation metrics by group."""
    terminal.values(result, mean="", flags="", promised="", reviewed="images reviewed")
    found = result.groups.values()
    best = [figures.image_best_f1 for figures in found]
    columns = {
        "images": [f"{figures.images:,}" for figures in found],
        "defects": [f"{figures.anomalous:,}" for figures in found],
        "image AUROC": [_metric(figures.image_auroc) for figures in found],
        "pixel AUROC": [_metric(figures.pixel_auroc) for figures in found],
        "PRO": [_metric(figures.pro) for figures in found],
        "best F1": ["-" if one is None else f"{one.f1:.3f}" for one in best],
        "score at best F1": ["-" if one is None else f"{one.threshold:.2f}" for one in best],
    }
    groups, has_mean = list(result.groups), len(result.groups) > 1
    if has_mean:
        groups.append("mean")
        means = {
            "image AUROC": "image_auroc",
            "pixel AUROC": "pixel_auroc",
            "PRO": "pro",
        }
        for name, cells in columns.items():
            cells.append(_metric(result.mean[means[name]]) if name in means else "")
    _print_by_group("Evaluation metrics", groups, columns, has_mean, terminal)


def print_evaluation(result: EvaluateResult, terminal: Terminal) -> None:
    """Print evaluation metrics, and how good the flags are."""
    print_metrics(result, terminal)
    judged = {name: found.flags for name, found in result.groups.items() if found.flags}
    if result.flags is None or not judged:
        return
    rows = {name: flags.describe() for name, flags in judged.items()}
    has_total = any(own.counts != result.flags.counts for own in judged.values())
    groups, texts = list(rows), list(rows.values())
    if has_total:
        groups.append("all images")
        texts.append(result.flags.describe())
    names = ("flagged", "precision", "recall", "false-alarm rate", "promised")
    columns = dict(zip(names, zip(*texts, strict=True), strict=True))
    _print_by_group("Flags, with 95 % intervals", groups, columns, has_total, terminal)


def _print_by_group(
    title: str,
    groups: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    summary: bool,
    terminal: Terminal,
) -> None:
    """Print a row for each group; with `summary` the last one is of all groups."""
    names = Column("group", [visible(group) for group in groups], is_right=False, folds=True)
    others = [Column(name, cells) for name, cells in columns.items()]
    terminal.columns(title, [names, *others], summary)


def print_demo(result: DemoResult, terminal: Terminal) -> None:
    """Print the results of the demo."""
    print_metrics(result, terminal)
    terminal.table("How the parts lay, in pixels and degrees", result.positions)
    terminal.table("Suspects among the normal images", result.suspects)
    terminal.table("Events in the film, in seconds", result.events)


def print_doctor(result: DoctorResult, terminal: Terminal) -> None:
    """Print the findings."""
    table, names = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0)), ("result", "check", "found")
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name != "found")
    rows = []
    for finding in result.findings:
        advice = f"→ {finding.remedy}" if finding.remedy else ""
        texts = filter(None, (finding.found, advice))
        found = "\n".join(visible_lines(terminal.text(text)) for text in texts)
        rows.append((finding.verdict, finding.check, found))
        table.add_row(_VERDICTS[finding.verdict], finding.check, Text(found))
    if not terminal.grid(table, _LEAST_FOUND):
        terminal.records(names, rows)


def print_query(result: QueryResult, terminal: Terminal) -> None:
    """Print the rows of a query, or say where they were written; notes go to stderr."""
    out = terminal.out
    for note in result.notes:
        terminal.err.print(f"note: {visible(terminal.text(note))}", **PLAIN)
    if result.written is not None:
        if result.file:
            terminal.line("rows written", format_value(result.written))
            terminal.line("file", result.file)
        return
    table, names = Table(box=SIMPLE_HEAD), [visible(name) for name in result.columns]
    for number, name in enumerate(names):
        numbers = any(is_number(row[number]) for row in result.rows)
        table.add_column(Text(name), justify="right" if numbers else "left", overflow="fold")
    shown = [[_value(value) for value in row] for row in result.rows]
    for row in shown:
        table.add_row(*map(Text, row))
    if not terminal.grid(table):
        shown = shown[:_RECORDS]
        terminal.records(names, shown)
    if result.more or len(shown) < len(result.rows):
        out.print(f"the first {len(shown)} rows; --format csv writes all", **PLAIN)


def print_verify(result: VerifyResult, terminal: Terminal) -> None:
    """Print whether a run is as it was written, what differs, and what would have been found."""
    terminal.values(
        result, rows="rows compared", rescored="shards scored again", changed="", unsettled=""
    )
    for chance in result.chances:
        shards = "1 shard" if chance.shards == 1 else f"{chance.shards} shards"
        terminal.line(
            "would find",
            f"with a probability of {100 * chance.probability:.3g} %, results of {shards} that "
            "were changed together with their digests",
        )
    if lacking := [*result.changed, *result.unsettled]:
        terminal.line("not compared", format_value(lacking))
    terminal.table("Differences", result.differences)


def print_suspects(result: SuspectsResult, terminal: Terminal) -> None:
    """Print the suspects of a model."""
    terminal.values(result, images="images in the model", in_model="suspects in the model")
    found = [replace(one, verdict=_verdict(one)) for one in result.suspects]
    terminal.table("Suspects", found, hidden=("kind",))


def print_top(result: TopResult, terminal: Terminal) -> None:
    """Print the strongest anomalies of a run."""
    terminal.values(result)
    anomalies = [replace(one, verdict=_verdict(one)) for one in result.anomalies]
    terminal.table("Anomalies", anomalies, hidden=("kind", "p_extrapolated", "peak_at"))


def print_label(result: LabelResult, terminal: Terminal) -> None:
    """Print what was written, and the reviews that differ from earlier ones."""
    terminal.values(result, number="batch of reviews")
    terminal.table("Differ from earlier reviews", result.disagreements)


def print_show(result: ShowResult, terminal: Terminal) -> None:
    """Print the details of an image and its regions."""
    terminal.values(result, peak="peak row, column", size="height x width", why="")
    if result.why:
        terminal.line("why", result.why.sentence)
        if normal := result.why.nearest:
            name = normal.image or normal.image_id
            terminal.line(
                "similar normal",
                f"{name} (similarity {normal.similarity:.3f}; {normal.compared:,} compared)",
            )
        terminal.table("Score by level", result.why.levels)
    terminal.table("Regions", result.regions)
    if result.status == "scored" and result.picture is None and not terminal.can_draw:
        terminal.err.print("no picture: give --out FILE, or use a true-colour terminal", **PLAIN)


def print_compare(result: CompareResult, terminal: Terminal) -> None:
    """Print how two runs differ."""
    images = {"both": "images in both", "only_a": "only in a", "only_b": "only in b"}
    flags = {"flagged_a": "flagged in a", "flagged_b": "flagged in b", "new": "newly flagged"}
    flags |= {"gone": "no longer flagged"}
    terminal.values(result, **images, **flags, spearman="rank correlation")
    terminal.table("Largest changes of rank", result.moved)
    terminal.table("New anomalies", result.new_anomalies)
    terminal.table("Gone anomalies", result.gone_anomalies)
    terminal.table("Medians", result.medians)


def _verdict(image: TopImage | SuspectImage) -> str | None:
    """Return a verdict with its kind: ``defect (glass)``."""
    return f"{image.verdict} ({image.kind})" if image.kind else image.verdict


def _metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _value(value: Any) -> str:
    """Format a value of a query: null as a dash, times to the second."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return visible(re.sub(r"^([\d-]{10})T([\d:]{8})(\.\d+)?\+00:00$", r"\1 \2", str(value)))
