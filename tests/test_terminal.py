"""Tables in narrow terminals and in pipes: nothing of them is lost."""

from __future__ import annotations

import dataclasses
import io
import re
import typing

import pytest
from rich.cells import cell_len
from rich.console import Console

from padim_dist.api.analysis.compare import CompareResult
from padim_dist.api.analysis.query import QueryResult
from padim_dist.api.analysis.show import ShowResult
from padim_dist.api.analysis.suspects import SuspectsResult
from padim_dist.api.analysis.top import TopResult
from padim_dist.api.findings import DoctorResult, Finding
from padim_dist.api.labels.evaluate import EvaluateResult, GroupFigures
from padim_dist.api.labels.label import LabelResult
from padim_dist.api.nights.history import HistoryResult
from padim_dist.api.nights.nights import GroupsResult, NightsResult
from padim_dist.api.nights.promotions import ModelsResult
from padim_dist.cli import night_output, output
from padim_dist.cli.progress import progress_bars
from padim_dist.cli.terminal import Terminal
from padim_dist.core.evaluation.flags import FlagCounts, FlagFigures
from padim_dist.core.evaluation.metrics import BestF1
from padim_dist.events import Progress

PRINTERS = {
    TopResult: output.print_top,
    SuspectsResult: output.print_suspects,
    LabelResult: output.print_label,
    CompareResult: output.print_compare,
    NightsResult: night_output.print_nights,
    GroupsResult: night_output.print_groups,
    HistoryResult: night_output.print_history,
    ModelsResult: night_output.print_models,
    ShowResult: output.print_show,
}
PATH = "line-7/station-12/camera-upper-left/2026-11-26/part_0000123456_view_3.png"


def filled(kind, name=""):
    """Return a value of a type with all that is optional, and ids of their length."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, localns={"Why": typing.Any})
        return kind(**{key: filled(hint, key) for key, hint in hints.items()})
    if typing.get_origin(kind) is list:
        return 2 * [filled(typing.get_args(kind)[0], name)]
    if name == "why":
        return None
    members = typing.get_args(kind) or (kind,)
    if str in members or isinstance(members[0], str):
        made = {"image": PATH, "verdict": "defect", "at": "2026-11-26T08:00:00+00:00"}
        is_id = name.endswith(("id", "runs", "snapshot"))
        return made.get(name) or (name.ljust(16, "x") if is_id else "line-7")
    return members[0](12345) if members[0] in (int, float) else True


def terminal_of(is_terminal: bool, width: int = 80) -> tuple[Terminal, io.StringIO]:
    terminal, sink = Terminal(), io.StringIO()
    terminal.out = Console(file=sink, width=width, force_terminal=is_terminal, color_system=None)
    return terminal, sink


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("kind", PRINTERS)
def test_ids_are_whole_at_80_columns(kind, is_terminal):
    terminal, sink = terminal_of(is_terminal)
    result = filled(kind)
    PRINTERS[kind](result, terminal)
    text = sink.getvalue()
    rows = [rows[0] for rows in vars(result).values() if is_table(rows)]
    assert rows
    for row in rows:
        for name, value in vars(row).items():
            if name.endswith("id") and name != "run_id":
                assert text.count(value) >= 2, (name, text)
    if kind is TopResult:
        assert "defect (line-7)" in text


def is_table(rows):
    return isinstance(rows, list) and rows and dataclasses.is_dataclass(rows[0])


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_query_is_whole_at_80_columns(is_terminal):
    terminal, sink = terminal_of(is_terminal)
    values = [f"value-{number:09d}" for number in range(12)]
    names = [f"column_{number}" for number in range(12)]
    result = QueryResult(
        columns=names, rows=[values], more=False, written=None, file=None, notes=[]
    )
    output.print_query(result, terminal)
    text = sink.getvalue()
    assert all(word in text for word in [*names, *values])
    assert ("row 1" in text) == is_terminal


def evaluation(groups: list[str]) -> EvaluateResult:
    flags = FlagFigures.of(FlagCounts(9, 2, 0, 1, 988, 0), 0.0012)
    best = BestF1(threshold=1043.21, f1=0.987, precision=1.0, recall=0.9)
    figures = GroupFigures(
        images=12345,
        anomalous=6789,
        not_scored=0,
        without_mask=0,
        image_auroc=0.9912,
        pixel_auroc=0.9823,
        pro=0.9434,
        image_best_f1=best,
        pixel_best_f1=best,
        flags=flags,
    )
    mean = {"image_auroc": 0.9911, "pixel_auroc": 0.9822, "pro": 0.9433}
    made = dict.fromkeys(groups, figures)
    total = FlagFigures.of(FlagCounts(18, 4, 0, 2, 1976, 0), 0.0012)
    return EvaluateResult("r" * 16, "m" * 16, made, mean, flags=total)


@pytest.mark.parametrize(
    ("is_terminal", "width"), [(False, 80), (True, 200), (True, 80), (True, 40)]
)
def test_figures_and_headings_of_an_evaluation_are_whole(is_terminal, width):
    terminal, sink = terminal_of(is_terminal, width)
    output.print_evaluation(evaluation(["line-7/camera-upper-left", "line-8"]), terminal)
    text = sink.getvalue()
    figures = ["12,345", "6,789", "0.9912", "0.9823", "0.9434", "0.987", "1043.21"]
    for figure in [*figures, "81.8 %", "(48.2 to 97.7 %)", "0.12 %"]:
        assert text.count(figure) >= 2, (figure, text)
    assert all(mean in text for mean in ("0.9911", "0.9822", "0.9433", "all images"))
    words = set(re.findall(r"[\w-]+", text))
    assert {*("image", "pixel", "AUROC", "PRO", "best", "score", "false-alarm", "rate")} <= words
    if is_terminal and width >= 80:
        assert max(map(cell_len, text.splitlines())) <= width
    assert ("row 1" in text) == (width < 200 and is_terminal)


@pytest.mark.parametrize("width", [200, 80, 40])
def test_no_word_of_the_doctor_is_cut(width):
    found = "each of 2 local workers: 2.61 GiB (activations 1.02, moments 0.43); disk at most 0.31"
    remedy = "use fewer readers, or a smaller batch"
    terminal, sink = terminal_of(True, width)
    findings = [
        Finding("memory and disk for score", "ok", found),
        Finding("weights", "warning", "random: 11 MiB", remedy),
    ]
    output.print_doctor(DoctorResult(findings), terminal)
    text = sink.getvalue()
    assert "memory and disk for score" in text
    words = " ".join(text.split())
    assert found in words
    assert f"→ {remedy}" in words


def test_a_stage_with_nothing_to_do_has_no_bar():
    sink = io.StringIO()
    with progress_bars(Console(file=sink, width=120, force_terminal=True)) as listen:
        listen(Progress("fit", 2, 0))
        listen(Progress("fit", 2, 2))
        listen(Progress("suspects", 0, 0))
    assert "2/2" in sink.getvalue()
    assert "suspects" not in sink.getvalue()
