"""What worker processes import when they start: neither an unguarded script, nor chance files."""

from __future__ import annotations

import ast
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from pathlib import Path
from types import FrameType

from padim_dist.errors import ConfigError

_SAFE_PATH = "PYTHONSAFEPATH"


def check_guard() -> None:
    """Refuse to start worker processes from code that they would run again.

    Each worker process imports the script that started it (Python's ``spawn``), and would run the
    calls of an unguarded script again.

    Raises
    ------
    ConfigError
        If the call is outside ``if __name__ == "__main__":``.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise _unguarded("this script")
    data = spawn.get_preparation_data("worker")
    name, path = data.get("init_main_from_name"), data.get("init_main_from_path")
    main = sys.modules["__main__"]
    if (name is None and path is None) or str(name).endswith("__main__"):
        return  # a notebook, a prompt or 'python -m package': not imported again
    frame: FrameType | None = sys._getframe()
    while frame and not (frame.f_code.co_name == "<module>" and frame.f_globals is vars(main)):
        frame = frame.f_back
    if frame is None or main.__file__ is None:
        return
    try:
        tree = ast.parse(Path(main.__file__).read_bytes())
    except (OSError, SyntaxError):
        return
    line = frame.f_lineno
    for statement in tree.body:
        if statement.lineno <= line <= (statement.end_lineno or 0) and not _is_guard(statement):
            raise _unguarded(f"{main.__file__}, line {line},")


@contextmanager
def safe_path() -> Iterator[None]:
    """Start Python processes that do not import from the working folder first.

    Python's ``spawn`` runs ``python -c``, for which a ``types.py`` in the working folder would
    replace that of the standard library. The environment is changed only while they start, since
    other programs of this process inherit it. Once started, a process has the module search path of
    the one that started it.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SAFE_PATH, None)
        else:
            os.environ[_SAFE_PATH] = before


def _is_guard(statement: ast.stmt) -> bool:
    """Return whether a statement is an ``if`` that reads ``__name__``."""
    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    )


def _unguarded(where: str) -> ConfigError:
    return ConfigError(
        f"{where} starts worker processes, and each of them would import the script and run it "
        'again. Put its calls under\n\n    if __name__ == "__main__":\n\nand run it again'
    )
