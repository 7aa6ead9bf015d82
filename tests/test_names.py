"""No name in an archive breaks out of an output: terminal, logs, Markdown, CSV, HTML, metrics."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import duckdb
import pytest
from markdown_it import MarkdownIt
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from padim_dist.api.analysis.query import QueryResult, write_csv
from padim_dist.api.findings import DoctorResult, Finding
from padim_dist.cli.logs import LogHandler
from padim_dist.cli.output import print_doctor, print_query
from padim_dist.cli.terminal import Terminal
from padim_dist.pages.cards import split_path
from padim_dist.pages.html import render
from padim_dist.pages.night import night_markdown
from padim_dist.store.nights import GroupNight, NightImage, NightSummary
from tests.names import HOSTILE, ORDINARY, SECRET, UNSEEN
from tests.pages.samples import anomaly, sample

PLAIN = "plain"
every = pytest.mark.parametrize("name", HOSTILE + ORDINARY, ids=ascii)


def summary(name: str) -> NightSummary:
    top = NightImage(name, name, name, name, 3.0, 0.1, True, 1, 2, "i" * 16, "r" * 16)
    return NightSummary(
        number=1,
        state="odd",
        reasons=[f"group {name}: the median rose"],
        day="2026-11-20",
        model_id="m" * 16,
        images=1,
        statuses={"scored": 1},
        groups={name: GroupNight(1, 1, 3.0, 3.0)},
        top=[top],
        runs=["r" * 16],
        folder=f"/ws/nights/{name}",
        picture=False,
        opened_at="2026-11-20T00:00:00+00:00",
        finished_at="2026-11-20T00:00:00+00:00",
    )


@dataclass
class Row:
    """A row of a table."""

    group: str
    image: str
    score: float


def printed(name: str) -> str:
    """Print a name in every way of the command line; return the output."""
    terminal, sink = Terminal(), io.StringIO()
    terminal.out = terminal.err = Console(file=sink, width=2000, color_system=None)
    terminal.line("image", name)
    terminal.notes([f"{name} is left out"])
    terminal.values(Row(name, name, 1.0))
    terminal.table("Rows", [Row(name, name, 1.0)])
    print_query(QueryResult([name, "b"], [[name, 1]], notes=[name]), terminal)
    print_query(QueryResult([name, "b"], [[f"{name} {'x' * 3000}", 1]]), terminal)
    print_doctor(DoctorResult([Finding("archive", "ok", name, name)]), terminal)
    return sink.getvalue()


@cache
def lines_of_plain() -> int:
    return printed(PLAIN).count("\n")


@every
def test_terminal(name):
    found = printed(name)
    assert not UNSEEN - {"\n"} & set(found)
    assert SECRET not in found
    if "\n" not in name:  # in a cell of the doctor a message may have lines
        assert found.count("\n") == lines_of_plain()
    if name in ORDINARY:
        assert found.count(name) >= 10
    elif not UNSEEN & set(name) and "://" not in name:
        assert found.count(name) >= 10, "what can be seen stays as it is"


@every
@pytest.mark.parametrize("as_json", [False, True])
def test_logs(name, as_json, capsys):
    terminal, sink = Terminal(), io.StringIO()
    terminal.err = Console(file=sink, width=2000, color_system=None)
    logger, handler = logging.getLogger("padim_dist"), LogHandler(terminal, as_json)
    logger.addHandler(handler)
    try:
        logger.warning("%s is left out: %s", name, name)
    finally:
        logger.removeHandler(handler)
    found = sink.getvalue() or capsys.readouterr().err
    assert not UNSEEN - {"\n"} & set(found)
    assert SECRET not in found
    if as_json:
        (line,) = found.splitlines()
        found = json.loads(line)["message"]
    else:
        assert found.startswith("warning: ")
    assert all(line.startswith(" ") for line in found.rstrip("\n").splitlines()[1:])
    assert name not in ORDINARY or found.count(name) == 2


def shape(text: str) -> list[Any]:
    """Return the structure of Markdown as another parser sees it, and its texts apart."""
    kinds, texts = [], []
    for token in MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(text):
        kinds.append(token.type)
        for inner in token.children or ():
            is_text = inner.type in ("text", "code_inline", "text_special")
            if not (is_text and kinds[-1] == "text"):
                kinds.append("text" if is_text else inner.type)
        texts.append("".join(inner.content for inner in token.children or ()))
    return [kinds, texts]


@cache
def markdown_of_plain() -> str:
    return night_markdown(summary(PLAIN))


@every
def test_markdown(name):
    text = night_markdown(summary(name))
    (kinds, texts), (plain_kinds, plain_texts) = shape(text), shape(markdown_of_plain())
    assert kinds == plain_kinds
    assert not UNSEEN - {"\n"} & set(text)
    assert SECRET not in text
    if not UNSEEN & set(name) and SECRET not in name:  # it is read as it is
        assert texts == [part.replace(PLAIN, name) for part in plain_texts]


@every
def test_csv(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # DuckDB has no such text
    found = duckdb.execute("SELECT ?::VARCHAR AS name, -2.5 AS score, -3 AS number", [name])
    sink = io.StringIO()
    write_csv(found, [name, "score", "number"], sink)
    header, row = csv.reader(io.StringIO(sink.getvalue(), newline=""))
    kept = name.replace("\r", "\\r")
    for cell in (header[0], row[0]):
        assert cell in (kept, f"'{kept}")
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
        assert cell == name or name not in ORDINARY
    assert row[1:] == ["-2.5", "-3"]


class Elements(HTMLParser):
    """Elements and names of attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs]))
        self.text += " ".join(value or "" for _, value in attrs)

    def handle_endtag(self, tag):
        self.found.append(tag)

    def handle_data(self, data):
        self.text += data


def html(names: Sequence[str]) -> Elements:
    pictures = [
        anomaly(0, uri=name, member=name, group=name, label=name, picture=None, heat=None)
        for name in names
    ]
    page = replace(REPORT, anomalies=pictures, warnings=[f"{name} is small" for name in names])
    return Elements(render(page, "1"))


REPORT = sample(drift=[], trend=[], labels=None, histogram=None)


def test_html():
    found = html(HOSTILE + ORDINARY)
    # A card has an element for the folder, if the name has one.
    folders = ["folder/" if split_path(f"{n} {n}")[0] else "" for n in HOSTILE + ORDINARY]
    assert found.found == html([f"{folder}plain-{i}" for i, folder in enumerate(folders)]).found
    assert not UNSEEN - set("\n\t") & set(found.text)
    assert SECRET not in found.text
    for name in ORDINARY:
        assert name in found.text


@every
def test_metrics(name):
    """Labels are stages and statuses; the library escapes all others too."""
    registry = CollectorRegistry()
    try:
        Counter("x", "x", ["name"], registry=registry).labels(name).inc()
        text = generate_latest(registry).decode()
    except UnicodeEncodeError:
        return
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert {s.labels["name"] for s in samples if s.name == "x_total"} == {name}
    assert "evil_metric" not in {s.name for s in samples}


def test_there_are_enough_names():
    assert len(HOSTILE) >= 40
