"""Progress bars in the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console

from padim_dist.events import Event, Listener, Progress, TaskRetried

logger = logging.getLogger("padim_dist")


@contextmanager
def progress_bars(console: Console) -> Iterator[Listener]:
    """Open a listener that draws a bar for each stage: done, rate, time left, failures.

    Nothing is drawn before the first stage; a stage's bar stops when the next one starts.
    """
    bars = progress.Progress(
        progress.SpinnerColumn(finished_text="✓"),
        progress.TextColumn("{task.description:<15}"),
        progress.BarColumn(bar_width=30),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]:>9}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[failures]}", style="yellow"),
        console=console,
    )
    tasks: dict[str, progress.TaskID] = {}

    def listen(event: Event) -> None:
        if isinstance(event, TaskRetried):
            logger.warning("%s: %s is retried: %s", event.stage, event.task, event.reason)
        if not isinstance(event, Progress):
            return
        total = event.total or None
        if event.stage not in tasks:
            if not event.total and not event.done:  # nothing to do, or nothing yet
                return
            bars.start()
            for task in bars.tasks:
                bars.stop_task(task.id)
            tasks[event.stage] = bars.add_task(event.stage, total=total, rate="", failures="")
        task_id = tasks[event.stage]
        elapsed = bars.tasks[task_id].elapsed or 0.0
        rate = f"{event.done / elapsed:.1f}/s" if event.done and elapsed > 0.5 else ""
        failures = f"{event.failed} failed" if event.failed else ""
        bars.update(task_id, completed=event.done, total=total, rate=rate, failures=failures)

    try:
        yield listen
    finally:
        if tasks:
            bars.stop()
