"""Progress bars in the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from padim_dist.events import Event, Listener, TaskRetried
from padim_dist.events import Progress as Stage

logger = logging.getLogger("padim_dist")


@contextmanager
def progress_bars(console: Console) -> Iterator[Listener]:
    """Open a listener that draws a bar for each stage: done, rate, time left, failures.

    Nothing is drawn before the first stage; a stage's bar stops when the next one starts.
    """
    bars = Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<15}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>9}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failures]}", style="yellow"),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def listen(event: Event) -> None:
        if isinstance(event, TaskRetried):
            logger.warning("%s: %s is retried: %s", event.stage, event.task, event.reason)
        if isinstance(event, Stage):
            show(event)

    def show(stage: Stage) -> None:
        bars.start()
        total = stage.total or None
        if stage.stage not in tasks:
            for task in bars.tasks:
                bars.stop_task(task.id)
            tasks[stage.stage] = bars.add_task(stage.stage, total=total, rate="", failures="")
        task_id = tasks[stage.stage]
        elapsed = bars.tasks[task_id].elapsed or 0.0
        rate = f"{stage.done / elapsed:.1f}/s" if stage.done and elapsed > 0.5 else ""
        failures = f"{stage.failed} failed" if stage.failed else ""
        bars.update(task_id, completed=stage.done, total=total, rate=rate, failures=failures)

    try:
        yield listen
    finally:
        if tasks:
            bars.stop()
