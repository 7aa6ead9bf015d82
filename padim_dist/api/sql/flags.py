"""SQL of the alarm rules: which rows of score tables are flagged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from padim_dist.core.alarms import LastFlagged
from padim_dist.store.runs.head import RunHead

MOST_ANOMALOUS = "p_value NULLS LAST, score DESC, uri, member"
"""Order of score rows, the most anomalous first; scores of different groups are not comparable."""
_NO_P_VALUE = 2.0  # after all p-values
_RANK = f"(coalesce(p_value, {_NO_P_VALUE}), -score, uri, coalesce(member, ''))"
"""Values of a score row whose order is that of `MOST_ANOMALOUS`."""


def flagged_sql(heads: Iterable[RunHead], otherwise: str = "NULL") -> str:
    """Return the SQL of the column ``flagged``: true, false, or null while it is not known.

    `otherwise` is the SQL for runs of versions that had no rules.
    """
    return by_run(_conditions(heads, _flagged), otherwise)


def cutoff_sql(heads: Iterable[RunHead]) -> str:
    """Return the SQL of the highest p-value that is flagged in the group of a row."""
    return by_run(_conditions(heads, _cutoff))


def by_run(values: Mapping[str, list[str]], otherwise: str = "NULL") -> str:
    """Return the SQL of a value that depends on the run, given the runs with each value."""
    cases = [
        f"WHEN run_id IN ({', '.join(map(literal, runs))}) THEN {value}"
        for value, runs in values.items()
    ]
    return f"CASE {' '.join(cases)} ELSE {otherwise} END" if cases else otherwise


def literal(text: str) -> str:
    """Return a string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _conditions(
    heads: Iterable[RunHead], make: Callable[[RunHead], str | None]
) -> dict[str, list[str]]:
    """Return the runs with each condition; runs without one are left out."""
    found: dict[str, list[str]] = {}
    for head in heads:
        if condition := make(head):
            found.setdefault(condition, []).append(head.run_id)
    return found


def _flagged(head: RunHead) -> str | None:
    if head.alarms is None:
        return None
    if head.last is not None:
        return f"CASE WHEN score IS NOT NULL THEN {_RANK} <= {_rank(head.last)} END"
    cutoff = _cutoff(head)
    return f"p_value <= {cutoff}" if cutoff else "NULL"


def _cutoff(head: RunHead) -> str | None:
    cutoff = head.cutoff_in(0.0)
    if head.alarms is None or cutoff is None:
        return None
    least = f"{cutoff!r}::DOUBLE"
    # NULL, in tables of earlier versions, is ignored.
    return f"greatest({least}, resolution)" if head.alarms.follows_resolution else least


def _rank(last: LastFlagged) -> str:
    p_value = _NO_P_VALUE if last.p_value is None else last.p_value
    return (
        f"({p_value!r}::DOUBLE, {-last.score!r}::FLOAT, {literal(last.uri)}, "
        f"{literal(last.member or '')})"
    )
