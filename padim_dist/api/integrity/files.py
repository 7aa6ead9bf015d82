"""Compare the files of a run with their digests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from padim_dist.engine.rescoring.differences import Difference
from padim_dist.errors import DamagedFileError
from padim_dist.events import Listener, Progress
from padim_dist.store.runs.digests import Digests, RunFiles, digest_of, find_files
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tables import find_compacted, is_added

_THREADS = 8
STAGE = "verify: files"
_LIST = "files.json"


@dataclass
class FileCheck:
    """What comparing the files of a run with their digests gives.

    Attributes
    ----------
    checked, pruned : int
        Files that were compared, and files that `padim-dist prune` removed.
    without : list of str
        Files that have no digest, since an earlier version wrote them.
    differences : list of Difference
        What differs.
    listed : RunFiles or None
        The list of files.
    """

    checked: int = 0
    pruned: int = 0
    without: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    listed: RunFiles | None = None

    def add(self, file: str, found: str) -> None:
        """Add a difference."""
        self.differences.append(Difference(file, None, found))


def check_files(run: Run, head: RunHead, listener: Listener) -> FileCheck:
    """Compare all files of a finished run with their digests; nothing is written."""
    check = FileCheck()
    check.listed = _find_list(run, head, check)
    expected = _expected(run, head, check)
    _find_strangers(run, head, expected, check)
    _check_drift(run, head, check)
    pruned = run.find_pruned()

    def look(file: str) -> tuple[str, str | None]:
        try:
            return file, digest_of(run.workspace.folder.read(f"{run.path}/{file}"))
        except FileNotFoundError:
            return file, None

    with ThreadPoolExecutor(_THREADS) as pool:
        found = _ahead(pool, look, sorted(expected))
        for number, (file, digest) in enumerate(found):
            listener(Progress(STAGE, len(expected), number))
            if digest is None and pruned and pruned.when(file):
                check.pruned += 1
                continue
            check.checked += 1
            if digest is None:
                check.add(file, "it is missing")
            elif digest != expected[file]:
                check.add(file, "its digest differs: it is not the file that was written")
    listener(Progress(STAGE, len(expected), len(expected)))
    return check


def _find_list(run: Run, head: RunHead, check: FileCheck) -> RunFiles | None:
    """Return the list of the run's files; add a difference if it is not that of the head."""
    if head.files is None:
        return None
    try:
        found = find_files(run.workspace.folder, run.path)
    except DamagedFileError as error:
        check.add(_LIST, f"it cannot be read: {error.found}")
        return None
    if found is None:
        check.add(_LIST, "it is missing")
        return None
    files, digest = found
    if digest != head.files:
        check.add(_LIST, "its digest differs from that in run.json")
    return files


def _expected(run: Run, head: RunHead, check: FileCheck) -> dict[str, str]:
    """Return the digests of the run's files, by path in its folder."""
    expected = dict(check.listed.digests) if check.listed else {}
    compacted = find_compacted(run.workspace, run.path)
    if compacted:
        replaced = tuple(f"{name}/" for name in compacted.files)
        expected = {file: d for file, d in expected.items() if not file.startswith(replaced)}
        expected |= compacted.digests
    expected |= head.added or {}
    for figures in head.drift.values():
        expected |= figures.digests
    return expected


def _find_strangers(run: Run, head: RunHead, expected: Digests, check: FileCheck) -> None:
    """Find files that readers of the tables read and that have no digest."""
    if head.files is not None and check.listed is None:
        return  # that is a difference already
    compacted = find_compacted(run.workspace, run.path)
    known = check.listed.machines() if check.listed else {}
    former = {place for place in range(len(head.shards)) if place not in known}
    for table in (run.scores, run.regions):
        former_files = {table.shard(place) for place in former}
        for path in table.files():
            file = path.removeprefix(f"{run.path}/")
            if file in expected:
                continue
            if is_added(path.rpartition("/")[2]):
                is_former = head.added is None
            else:
                is_former = path in former_files or bool(compacted and not compacted.digests)
            if is_former:
                check.without.append(file)
            else:
                check.add(file, "no receipt names it, and readers of the table read it")


def _check_drift(run: Run, head: RunHead, check: FileCheck) -> None:
    """Compare the drift of each group with that in the head."""
    for group, figures in head.drift.items():
        try:
            if run.drift.read(group) != figures:
                check.add("drift", f"the drift of group {group!r} is not that in run.json")
        except DamagedFileError as error:
            check.add("drift", f"the drift of group {group!r} cannot be read: {error.found}")


def _ahead(pool: ThreadPoolExecutor, look: Any, files: list[str]) -> Iterator[Any]:
    """Look at files, a few at a time, so that only these are in memory."""
    for first in range(0, len(files), _THREADS):
        yield from pool.map(look, files[first : first + _THREADS])


def about_tables(differences: Iterable[Difference]) -> bool:
    """Return whether one of the differences is about a table."""
    return any(found.file.startswith(("scores", "regions")) for found in differences)
