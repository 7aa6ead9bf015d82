"""Everything in a workspace that may go, as items for the policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import groupby
from pathlib import PurePosixPath

from padim_dist.api.retention.facts import KnownFacts
from padim_dist.api.retention.policy import Item, Key
from padim_dist.api.retention.roots import (
    NEWEST_NIGHT,
    OPEN_NIGHT,
    ArchiveRoots,
    archive_roots,
    model_roots,
    run_roots,
)
from padim_dist.store.lease import is_released
from padim_dist.store.models import find_fit
from padim_dist.store.objects import StoredObject, list_objects
from padim_dist.store.promotions import model_states, read_promotions
from padim_dist.store.records import read_record
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tombstones import read_tombstones
from padim_dist.store.workspace import Workspace

_LEASE = "lease-"
Objects = dict[str, list[StoredObject]]
"""Objects by the name of the folder that they are in."""


@dataclass(frozen=True)
class _Receipt:
    """Which moments the receipt of a part names; `KeptPart` has all of it, and needs torch."""

    moments: str


@dataclass(frozen=True)
class Inventory:
    """Reads the items of a workspace.

    Attributes
    ----------
    workspace, known : Workspace, KnownFacts
        The workspace, and what is known of its records.
    window : int
        Entries of the history that the next fit may merge.
    young : datetime
        A fit that has changed since then may be at work.
    held : frozenset of str
        Fits whose leases this prune holds: no other command is at work on them.
    """

    workspace: Workspace
    known: KnownFacts
    window: int
    young: datetime
    held: frozenset[str] = frozenset()

    def read(self) -> list[Item]:
        """Return all items.

        Raises
        ------
        DamagedFileError
            If a record is damaged: what it refers to is not known then.
        """
        items = [*self._runs(), *self._models, *self._fits(), *self._moments()]
        return [*items, *self._manifests(), *self._histories(), *self._nights()]

    def wanted(self, stays: Iterable[Item]) -> set[Key]:
        """Return the keys of all that is needed: by items that stay, by nights, by promotions."""
        keys = {key for item in stays for key in item.needs}
        keys |= {_manifest(one) for archive in self._archives.values() for one in archive.manifests}
        return keys | {("model", name) for name in model_states(read_promotions(self.workspace))}

    @cached_property
    def _archives(self) -> dict[str, ArchiveRoots]:
        folder = self.workspace.folder
        names = {*folder.list(self.workspace.histories), *folder.list(self.workspace.all_nights)}
        return {name: archive_roots(self.workspace, name, self.window) for name in sorted(names)}

    def _runs(self) -> Iterator[Item]:
        folders = self._folders(self.workspace.runs)
        heads = {
            name: one
            for name, objects in folders.items()
            for one in objects
            if one.path == Run(self.workspace, name).head_path
        }
        facts = self.known.of_runs(heads)
        roots = run_roots(facts, self._archives.values())
        stones = {stone.run_id for stone in read_tombstones(self.workspace)}
        for name, objects in folders.items():
            run = Run(self.workspace, name)
            if name not in heads:
                yield replace(self._attempt(run.path, objects), is_left=name in stones)
                continue
            one = facts[name]
            needs = {_manifest(snapshot) for snapshot in one.manifests}
            needs |= {("model", one.model)} if one.model else set()
            item = Item(
                ("run", name),
                objects,
                heads[name].modified,
                (run.head_path,),
                frozenset(needs),
                root=roots.get(name),
            )
            if not one.is_finished:
                yield replace(item, key=("attempt", run.path), modified=_newest(objects))
                continue
            start = f"{run.heatmaps.path}/"
            maps = [one for one in objects if one.path.startswith(start)]
            yield replace(item, objects=[one for one in objects if not one.path.startswith(start)])
            if maps:
                yield Item(
                    ("heatmaps", name),
                    maps,
                    _newest(maps),
                    (run.heatmaps.receipt,),
                    part_of=item.key,
                    root=item.root,
                    is_left=all(one.path != run.heatmaps.receipt for one in maps),
                )

    @cached_property
    def _models(self) -> list[Item]:
        return list(self._read_models())

    def _read_models(self) -> Iterator[Item]:
        folders = self._folders(self.workspace.models)
        names = {name.removesuffix(".zarr"): objects for name, objects in folders.items()}
        records = {
            name: one
            for name, objects in names.items()
            for one in objects
            if one.path == f"{self.workspace.model(name)}/zarr.json"
        }
        facts = {
            name: one for name, one in self.known.of_models(records).items() if one.is_finished
        }
        roots = model_roots(self.workspace, facts)
        for name, objects in names.items():
            if name not in facts:
                yield self._attempt(self.workspace.model(name), objects)
                continue
            needs = {_manifest(snapshot) for snapshot in facts[name].manifests}
            yield Item(
                ("model", name),
                objects,
                records[name].modified,
                (records[name].path,),
                frozenset(needs | {("fit", str(facts[name].fit))}),
                root=roots.get(name),
            )

    def _fits(self) -> Iterator[Item]:
        """Yield fits; those of models in use, and those that may be at work, need their moments."""
        used = {key for item in self._models if item.root for key in item.needs}
        for name, objects in self._folders(self.workspace.fits).items():
            path = self.workspace.fit(name)
            modified = self._worked_at(name, objects)
            item = Item(("fit", name), objects, modified, (f"{path}/fit.json",))
            if item.key in used or item.modified > self.young:
                head = find_fit(self.workspace, name)
                parts = head.parts if head else ()
                needs: set[Key] = {("moments", part.receipt) for part in parts}
                needs |= {_manifest(part.manifest) for part in parts}
                item = replace(item, needs=frozenset(needs))
            yield item

    def _worked_at(self, name: str, objects: Sequence[StoredObject]) -> datetime:
        """Return when a fit last changed; a lease counts while another command may hold it."""
        newest = _newest(objects)
        own = [one for one in objects if not PurePosixPath(one.path).name.startswith(_LEASE)]
        if not own or newest <= self.young:
            return newest
        is_free = name in self.held or is_released(self.workspace, self.workspace.fit(name))
        return _newest(own) if is_free else newest

    def _moments(self) -> Iterator[Item]:
        """Yield parts with their receipts, and bodies that no receipt names."""
        objects = list_objects(self.workspace.folder, self.workspace.moments)
        receipts = {one.path: one for one in objects if one.path.count("/") == 3}
        bodies: dict[str, Objects] = {}
        for one in objects:
            if one.path not in receipts:
                body = "/".join(one.path.split("/")[:4])
                receipt = f"{body.rpartition('-')[0]}.json"
                bodies.setdefault(receipt, {}).setdefault(body, []).append(one)
        for path in sorted({*receipts, *bodies}):
            own = bodies.get(path, {})
            named = None
            if path in receipts:
                # Of several bodies the receipt names one; the others are of killed attempts.
                named = next(iter(own), None) if len(own) < 2 else self._named(path)
                record = receipts[path]
                files = [record, *own.get(str(named), ())]
                yield Item(("moments", path), files, record.modified, (path,))
            for body, files in own.items():
                if body != named:
                    yield self._attempt(body, files)

    def _named(self, receipt: str) -> str:
        return read_record(self.workspace.folder, receipt, _Receipt).moments

    def _manifests(self) -> Iterator[Item]:
        roots: dict[str, str] = {}
        for archive in self._archives.values():
            roots |= archive.manifests
        folders = self._folders(self.workspace.manifests)
        receipts = {
            name: one
            for name, objects in folders.items()
            for one in objects
            if one.path == f"{self.workspace.manifest(name)}/manifest.json"
        }
        # Those without a delta are whole, and need no other.
        deltas = {name for name, objects in folders.items() if any(map(_is_delta, objects))}
        chains = {name: one for name, one in receipts.items() if name in deltas}
        facts = self.known.of_manifests(chains)
        for name, objects in folders.items():
            if name not in receipts:
                yield self._attempt(self.workspace.manifest(name), objects)
                continue
            yield Item(
                _manifest(name),
                objects,
                _newest(objects),
                (receipts[name].path,),
                frozenset(map(_manifest, facts[name].manifests if name in facts else ())),
                root=roots.get(name),
            )

    def _histories(self) -> Iterator[Item]:
        """Yield the tables of changes."""
        for objects in self._folders(self.workspace.histories).values():
            for one in objects:
                if one.path.endswith(".parquet"):
                    yield Item(("changes", one.path), [one], one.modified)

    def _nights(self) -> Iterator[Item]:
        """Yield what nights have beside their records."""
        open_or_newest = {
            archive.night.path: OPEN_NIGHT if archive.is_open else NEWEST_NIGHT
            for archive in self._archives.values()
            if archive.night
        }
        kept = ("summary.json",)
        found = list_objects(self.workspace.folder, self.workspace.all_nights)
        files = [one for one in found if one.path.count("/") == 3 and not one.path.endswith(kept)]
        for path, own in groupby(files, lambda one: one.path.rpartition("/")[0]):
            objects = list(own)
            root = open_or_newest.get(path)
            yield Item(("night", path), objects, _newest(objects), root=root)

    def _folders(self, path: str) -> Objects:
        """Return the objects of each folder in a folder."""
        found: Objects = {}
        for one in list_objects(self.workspace.folder, path):
            _, name, *rest = one.path.split("/")
            if rest:
                found.setdefault(name, []).append(one)
        return found

    def _attempt(self, path: str, objects: Sequence[StoredObject]) -> Item:
        return Item(("attempt", path), objects, _newest(objects))


def _is_delta(one: StoredObject) -> bool:
    return one.path.rpartition("/")[2].startswith("delta-")


def _manifest(snapshot: str) -> Key:
    return "manifest", snapshot


def _newest(objects: Iterable[StoredObject]) -> datetime:
    return max(one.modified for one in objects)
