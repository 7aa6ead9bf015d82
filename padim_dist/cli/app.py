"""The command line: commands of the pipeline, of nights and for analysts.

Results go to stdout; progress, warnings and errors go to stderr. Exit codes: 0 done, every
image has a row; 1 the run failed; 2 the request or the configuration is wrong; 3 a night is odd
(`audit --fail-on-odd`), or a run is not as it was written (`verify`); 130 interrupted.
"""

import atexit
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

import padim_dist as padim
from padim_dist.cli import options, output
from padim_dist.cli.command import Session, command
from padim_dist.cli.command import app as app
from padim_dist.events import Listener

if TYPE_CHECKING:
    from padim_dist.api.demo import DemoResult
    from padim_dist.api.findings import DoctorResult

for _name in ("pipeline", "nights", "analysis"):  # they add their commands, in this order
    import_module(f"padim_dist.cli.{_name}")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"padim-dist {padim.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Declare the options of the program itself."""


@command(
    output.print_doctor,
    exit_code=lambda result: 2 if any(f.verdict == "error" for f in result.findings) else 0,
)
def doctor(session: Session) -> "DoctorResult":
    """Check configuration, weights, archive, workspace, cluster and memory; say what to do."""
    return padim.doctor(session.config, session.listener)


@command(output.print_demo, config=False)
def demo(listener: Listener, *, folder: options.Folder = "demo") -> "DemoResult":
    """Make a small archive, then index, fit, score and evaluate it; works offline."""
    return padim.demo(folder, listener)


def main() -> None:
    """Run the command line: entry point of the console script."""
    try:
        app(prog_name="padim-dist")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            _leave(end.code or 0)
        raise


def _leave(code: int) -> None:
    """End this process once all is written; return if it cannot be, so that Python says so.

    Python would take all modules apart first, which takes a second, with PyTorch among them.
    """
    atexit._run_exitfuncs()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None if it was closed from outside
            stream.flush()
    except (OSError, ValueError):
        return
    os._exit(code)
