"""Promotions: the history of the models that the nightly audits use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from padim_dist.store.numbered import add_numbered, numbered_file, read_numbered
from padim_dist.store.workspace import Workspace

_ADVICE = (
    "Restore it from a copy of the workspace, or remove it: what it says is then lost, so look at "
    "'padim-dist models' and promote a model again if another one is to be used"
)


@dataclass(frozen=True)
class Promotion:
    """A promotion, or the rollback of one.

    Attributes
    ----------
    number, model_id : int, str
        Number, from 1; the model that is promoted from now on.
    note, by, at : str
        The reason; user and machine; ISO 8601, UTC.
    undoes : int or None
        Number of the promotion that it rolls back; None for a new one.
    """

    number: int
    model_id: str
    note: str
    by: str
    at: str
    undoes: int | None = None


def read_promotions(workspace: Workspace, *, all_of_them: bool = True) -> list[Promotion]:
    """Read all promotions and rollbacks, the oldest first.

    A damaged one is an error, unless not `all_of_them` are needed, as in a list for people.
    """
    return read_numbered(
        workspace, workspace.promotions, Promotion, advice=_ADVICE, all_of_them=all_of_them
    )


def add_promotion(workspace: Workspace, promotion: Promotion) -> bool:
    """Add a promotion; False if one of this number exists already."""
    return add_numbered(workspace, workspace.promotions, promotion)


def remove_promotion(workspace: Workspace, promotion: Promotion) -> None:
    """Remove a promotion that has just been added: its model is gone."""
    workspace.folder.remove(numbered_file(workspace.promotions, promotion.number))


def in_force(promotions: Sequence[Promotion]) -> list[Promotion]:
    """Return the promotions that were not rolled back, the current one last.

    Examples
    --------
    >>> a, b = (Promotion(n, m, "", "", "") for n, m in ((1, "a"), (2, "b")))
    >>> back = Promotion(3, "a", "", "", "", undoes=2)
    >>> [p.model_id for p in in_force([a, b])], [p.model_id for p in in_force([a, b, back])]
    (['a', 'b'], ['a'])
    """
    undone = {promotion.undoes for promotion in promotions}
    return [p for p in promotions if p.undoes is None and p.number not in undone]


def current(promotions: Sequence[Promotion]) -> Promotion | None:
    """Return the current promotion; None if there is none."""
    return next(reversed(in_force(promotions)), None)


def model_states(promotions: Sequence[Promotion]) -> dict[str, str]:
    """Return ``"promoted"`` or ``"retired"`` for each model that was ever promoted."""
    states = {promotion.model_id: "retired" for promotion in promotions}
    now = current(promotions)
    return {**states, now.model_id: "promoted"} if now else states
