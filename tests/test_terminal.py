"""Tables in narrow terminals and in pipes: nothing of them is lost."""

from __future__ import annotations

import dataclasses
import io
import typing

import pytest
from rich.console import Console

from padim_dist.api.analysis.compare import CompareResult
from padim_dist.api.analysis.query import QueryResult
from padim_dist.api.analysis.show import ShowResult
from padim_dist.api.analysis.suspects import SuspectsResult
from padim_dist.api.analysis.top import TopResult
from padim_dist.api.labels.label import LabelResult
from padim_dist.api.nights.history import HistoryResult
from padim_dist.api.nights.nights import GroupsResult, NightsResult
from padim_dist.api.nights.promotions import ModelsResult
from padim_dist.cli import output
from padim_dist.cli.progress import progress_bars
from padim_dist.cli.terminal import Terminal
from padim_dist.events import Progress

PRINTERS = {
    TopResult: output.print_top,
    SuspectsResult: output.print_suspects,
    LabelResult: output.print_label,
    CompareResult: output.print_compare,
    NightsResult: output.print_nights,
    GroupsResult: output.print_groups,
    HistoryResult: output.print_history,
    ModelsResult: output.print_models,
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


def terminal_of(is_terminal: bool) -> tuple[Terminal, io.StringIO]:
    terminal, sink = Terminal(), io.StringIO()
    terminal.out = Console(file=sink, width=80, force_terminal=is_terminal, color_system=None)
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


def test_a_stage_with_nothing_to_do_has_no_bar():
    sink = io.StringIO()
    with progress_bars(Console(file=sink, width=120, force_terminal=True)) as listen:
        listen(Progress("fit", 2, 0))
        listen(Progress("fit", 2, 2))
        listen(Progress("suspects", 0, 0))
    assert "2/2" in sink.getvalue()
    assert "suspects" not in sink.getvalue()
