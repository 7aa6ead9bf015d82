"""What goes and what stays: a pure function of what exists, of roots, of terms and of a time.

An item stays if it is a root, if it is younger than the term of its kind (or there is none), or if
an item that stays needs it. All others go. Roots and needs come from records and know no clock, so
a clock that is wrong never removes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from padim_dist.store.objects import StoredObject

Kind = Literal[
    "run", "heatmaps", "model", "fit", "moments", "manifest", "changes", "night", "attempt"
]
Key = tuple[Kind, str]
Terms = Mapping[Kind, timedelta | None]
NAMES: Mapping[Kind, str] = {
    "run": "runs",
    "heatmaps": "heatmaps",
    "model": "models",
    "fit": "fits",
    "moments": "moments",
    "manifest": "manifests",
    "changes": "tables of changes",
    "night": "pictures of nights",
    "attempt": "half-done attempts",
}
"""Names of the kinds for people, in the order in which they are listed."""


@dataclass(frozen=True)
class Item:
    """Something in a workspace that stays or goes as a whole.

    Attributes
    ----------
    key : tuple
        Its kind, and its name: an id, or a path in the workspace.
    objects : sequence of StoredObject
        The objects it consists of.
    modified : datetime
        When it last changed, by the clock of the store.
    records : sequence of str
        Paths of the objects without which it does not exist: they are removed first.
    needs : frozenset of tuple
        Keys of the items without which it is of no use.
    part_of : tuple or None
        Key of the item without which it is of no use itself.
    root : str or None
        Why it stays at any age, in words.
    is_left : bool
        Whether an earlier prune began to remove it.
    """

    key: Key
    objects: Sequence[StoredObject]
    modified: datetime
    records: Sequence[str] = ()
    needs: frozenset[Key] = field(default_factory=frozenset)
    part_of: Key | None = None
    root: str | None = None
    is_left: bool = False

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return self.key[0]

    @property
    def bytes(self) -> int:
        """Bytes of its objects."""
        return sum(one.size for one in self.objects)


@dataclass(frozen=True)
class Verdict:
    """Whether an item goes, and why it does or does not."""

    item: Item
    goes: bool
    why: str


@dataclass(frozen=True)
class PruneLine:
    """Items of a kind that go, or stay, for the same reason."""

    what: str
    goes: bool
    items: int
    objects: int
    bytes: int
    why: str


def decide(items: Iterable[Item], terms: Terms, now: datetime) -> list[Verdict]:
    """Return for each item whether it goes.

    Parameters
    ----------
    items : iterable of Item
        All items of a workspace.
    terms : mapping
        How long the items of each kind are kept; None, or no entry: always.
    now : datetime
        The time by the clock of the store.

    Examples
    --------
    >>> then, now = datetime(2026, 1, 1), datetime(2026, 3, 1)
    >>> run = Item(("run", "8e5c"), (), now, needs=frozenset({("model", "4be1")}))
    >>> models = [Item(("model", name), (), then) for name in ("4be1", "77aa")]
    >>> month = timedelta(days=30)
    >>> for found in decide([run, *models], {"run": month, "model": month}, now):
    ...     print(found.item.key[1], found.goes, found.why)
    8e5c False younger than 30 days
    4be1 False a kept run needs it
    77aa True older than 30 days
    """
    all_items = {item.key: item for item in items}
    stays: dict[Key, str] = {}
    for key, item in all_items.items():
        if why := item.root or _is_young(item, terms, now):
            stays[key] = why
    left = list(stays)
    while left:
        item = all_items[left.pop()]
        for key in item.needs & all_items.keys() - stays.keys():
            stays[key] = f"a kept {item.kind} needs it"
            left.append(key)
    for key, item in all_items.items():
        whole = item.part_of
        if whole in all_items and whole not in stays and item.root is None:
            stays.pop(key, None)
    return [
        Verdict(item, key not in stays, stays.get(key) or _why_it_goes(item, stays, terms))
        for key, item in all_items.items()
    ]


def summarise(verdicts: Iterable[Verdict]) -> list[PruneLine]:
    """Return lines for people: what goes, then what stays, by kind and reason."""
    groups: dict[tuple[bool, Kind, str], list[Item]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.goes, verdict.item.kind, verdict.why].append(verdict.item)
    order = list(NAMES)
    keys = sorted(groups, key=lambda key: (not key[0], order.index(key[1]), key[2]))
    return [
        PruneLine(
            what=NAMES[kind],
            goes=goes,
            items=len(groups[goes, kind, why]),
            objects=sum(len(item.objects) for item in groups[goes, kind, why]),
            bytes=sum(item.bytes for item in groups[goes, kind, why]),
            why=why,
        )
        for goes, kind, why in keys
    ]


def _is_young(item: Item, terms: Terms, now: datetime) -> str | None:
    """Return why its age keeps an item; None if it does not."""
    term = terms.get(item.kind)
    if item.is_left:
        return None
    if term is None:
        return "no term is set"
    return f"younger than {in_days(term)}" if now - item.modified < term else None


def _why_it_goes(item: Item, stays: Mapping[Key, str], terms: Terms) -> str:
    if item.is_left:
        return "an earlier prune began to remove it"
    if item.part_of and item.part_of not in stays:
        return f"its {item.part_of[0]} goes"
    term = terms.get(item.kind)
    assert term is not None
    return f"older than {in_days(term)}"


def in_days(term: timedelta) -> str:
    """Return a term in words.

    Examples
    --------
    >>> in_days(timedelta(days=30)), in_days(timedelta(days=1))
    ('30 days', '1 day')
    """
    days = f"{term / timedelta(days=1):g}"
    return f"{days} day{'' if days == '1' else 's'}"
