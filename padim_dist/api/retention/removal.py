"""The removal of items: first the record that makes one visible, then the rest.

A process that is killed in between leaves objects without a record. The next prune finds these and
goes on. What has a lease is removed under it. What has none is looked at again once its record is
gone: if a command has begun to need it meanwhile, the record is put back. What has changed since it
was found stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from padim_dist.api.retention.policy import NAMES, Item, Key
from padim_dist.api.retention.tombs import bury
from padim_dist.api.settings.places import logger
from padim_dist.errors import HeldError
from padim_dist.events import Listener, Progress
from padim_dist.store.lease import hold
from padim_dist.store.objects import list_objects, remove_objects
from padim_dist.store.runs.run import HEATMAPS, Run
from padim_dist.store.runs.tables import is_receipt
from padim_dist.store.runs.turns import newest_turn
from padim_dist.store.workspace import Workspace

_NEEDED_AT_ONCE = ("model", "fit", "moments", "manifest")
"""Kinds that a command may begin to need at any moment."""


@dataclass
class Removal:
    """Removes items.

    Attributes
    ----------
    workspace, listener : Workspace, callable
        Where; receives progress.
    nights : mapping of str to int
        Nights of runs that go, as far as they are known.
    wanted : callable
        Returns the keys of all items that are needed now, given the fits whose leases are held.
    notes : list of str
        What was not removed, and why.
    failures : list of str
        What could not be removed, and the error of the storage.
    """

    workspace: Workspace
    listener: Listener
    nights: Mapping[str, int]
    wanted: Callable[[Collection[str]], Collection[Key]]
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def remove(self, items: Sequence[Item]) -> list[Item]:
        """Remove items; return those that were removed."""
        going = {item.key for item in items}
        parts = [item for item in items if item.part_of in going]
        rest = [item for item in items if item.kind in _NEEDED_AT_ONCE]
        others = going - {item.key for item in (*parts, *rest)}
        removed: list[Item] = []
        with self._stage(items) as done:
            for item in items:
                if item.key in others:
                    with self._going_on(item):
                        if self._is_removed(item):
                            removed.append(item)
                    done(1)
            removed += self._remove_looking_again(rest)
            gone = {item.key for item in removed}
            removed += [item for item in parts if item.part_of in gone]
            done(len(parts) + len(rest))
        return removed

    @contextmanager
    def _stage(self, items: Sequence[Item]) -> Iterator[Callable[[int], None]]:
        passed = 0

        def done(more: int) -> None:
            nonlocal passed
            passed += more
            self.listener(Progress("prune", len(items), passed))

        done(0)
        yield done

    @contextmanager
    def _going_on(self, item: Item) -> Iterator[None]:
        """Note an error of the storage about an item; the others are removed all the same."""
        try:
            yield
        except OSError as error:
            self.failures.append(f"{item.kind} {item.key[1]} ({error})")

    def _is_removed(self, item: Item) -> bool:
        """Remove an item that no other command needs; return whether it was removed."""
        name = item.key[1]
        try:
            if item.kind == "run":
                return self._remove_run(Run(self.workspace, name), item)
            if item.kind == "heatmaps":
                return self._remove_heatmaps(Run(self.workspace, name), item)
            if item.kind == "attempt":
                return self._remove_attempt(item)
            remove_objects(self.workspace.folder, _paths(item))
        except HeldError as error:
            self.notes.append(f"{NAMES[item.kind]} stay: {error}")
            return False
        return True

    def _remove_run(self, run: Run, item: Item) -> bool:
        with hold(self.workspace, run.path):
            if self._has_changed(item):  # e.g. asked for again, so it is the newest
                return False
            bury(run, self.nights.get(run.run_id))
            self._remove_folder(run.path, item)
        return True

    def _remove_heatmaps(self, run: Run, item: Item) -> bool:
        with hold(self.workspace, run.path):
            head = run.find_head()
            if head is None or head.turn == newest_turn(self.workspace):
                self.notes.append(f"heatmaps of run {run.run_id} stay: it has changed meanwhile")
                return False
            run.put_pruned(HEATMAPS)
            self._remove_folder(run.heatmaps.path, item)
        return True

    def _has_changed(self, item: Item) -> bool:
        """Return whether a record of an item is not the one that was found; then note it."""
        found = {(one.path, one.modified) for one in item.objects}
        for record in item.records:
            # By a listing, as it was found: other answers of a store have rounded times.
            now = list_objects(self.workspace.folder, str(PurePosixPath(record).parent))
            own = [(one.path, one.modified) for one in now if one.path == record]
            if not found.issuperset(own):
                self.notes.append(f"{item.kind} {item.key[1]} stays: it has changed meanwhile")
                return True
        return False

    def _remove_attempt(self, item: Item) -> bool:
        path = item.key[1]
        kind = path.partition("/")[0]
        with ExitStack() as held:
            if kind == self.workspace.runs:
                held.enter_context(hold(self.workspace, path))
            elif kind == self.workspace.models:
                # Which fit made it is not known, and one that goes on writes the same names.
                for name in self.workspace.folder.list(self.workspace.fits):
                    held.enter_context(hold(self.workspace, self.workspace.fit(name)))
            there = {(one.path, one.modified) for one in list_objects(self.workspace.folder, path)}
            new = there - {(one.path, one.modified) for one in item.objects}
            if any(not _is_lease(name) for name, _ in new):  # a lease was taken just now
                self.notes.append(f"{path} stays: it has changed meanwhile")
                return False
            self._remove_folder(path, item)
        return True

    def _remove_looking_again(self, items: Sequence[Item]) -> list[Item]:
        """Remove items of the kinds `_NEEDED_AT_ONCE`; return those that were removed."""
        folder = self.workspace.folder
        with ExitStack() as held:
            fits: set[str] = set()
            ours: list[Item] = []
            for item in items:
                with self._going_on(item):
                    # Parts share their folders, and a fit that writes one again has named it.
                    is_shared = item.kind == "moments"
                    if not self._is_held(item, held, fits):
                        continue
                    if is_shared or not self._has_changed(item):
                        ours.append(item)
            records: dict[Key, dict[str, bytes]] = {}
            for item in ours:
                with self._going_on(item):
                    own = self._read_records(item)
                    for path in own:
                        folder.remove(path)
                    records[item.key] = own
            wanted = self.wanted(fits) if records else ()
            gone: list[Item] = []
            for item in ours:
                with self._going_on(item):
                    if item.key in wanted:
                        for path, data in records.get(item.key, {}).items():
                            folder.create(path, data)
                        self.notes.append(f"{item.kind} {item.key[1]} stays: it is needed again")
                    elif item.key in records:
                        self._remove_folder(_place(self.workspace, item), item)
                        gone.append(item)
        return gone

    def _read_records(self, item: Item) -> dict[str, bytes]:
        records = {}
        for path in item.records:
            with suppress(FileNotFoundError):
                records[path] = self.workspace.folder.read(path)
        return records

    def _is_held(self, item: Item, held: ExitStack, fits: set[str]) -> bool:
        """Hold the lease of a fit, or of the fit of a model; return whether it is held.

        `fits` are those whose lease is held already.
        """
        keys = [item.key] if item.kind == "fit" else item.needs if item.kind == "model" else ()
        try:
            for kind, name in keys:
                if kind == "fit" and name not in fits:
                    held.enter_context(hold(self.workspace, self.workspace.fit(name)))
                    fits.add(name)
        except HeldError as error:
            self.notes.append(f"{item.kind} {item.key[1]} stays: {error}")
            return False
        return True

    def _remove_folder(self, path: str | None, item: Item) -> None:
        """Remove the objects of an item: records first, then what vouches for others, leases last.

        A run that is made again believes the receipts that it finds.
        """
        folder = self.workspace.folder
        for record in item.records:
            folder.remove(record)
        for kind in (_is_receipt, _is_body, _is_lease):
            remove_objects(folder, [path for path in _paths(item) if kind(path)])
        if path is not None:
            # Folders of a local disk, and the lease that is held.
            with suppress(OSError):
                folder.remove_tree(path)
        logger.debug("removed %s", path or item.key[1])


def _place(workspace: Workspace, item: Item) -> str | None:
    """Return the folder that has nothing but an item; None if there is none."""
    name = item.key[1]
    if item.kind == "moments":
        bodies = {"/".join(one.path.split("/")[:4]) for one in item.objects}
        return next((body for body in bodies if not body.endswith(".json")), None)
    where = {"model": workspace.model, "fit": workspace.fit, "manifest": workspace.manifest}
    return where[item.kind](name)


def _paths(item: Item) -> list[str]:
    return [one.path for one in item.objects]


def _is_receipt(path: str) -> bool:
    """Return whether other objects count as complete because this one is there."""
    return is_receipt(path) or "/.receipts/" in path


def _is_body(path: str) -> bool:
    return not _is_receipt(path) and not _is_lease(path)


def _is_lease(path: str) -> bool:
    return PurePosixPath(path).name.startswith("lease-")
