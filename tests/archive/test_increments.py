"""Differences between two listings, compared with sets in memory."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.archive.listing.increments import SCORED_SCHEMA, compare, not_scored
from padim_dist.archive.listing.workbench import SortedRows, Workbench
from padim_dist.archive.rows import ROWS_SCHEMA
from padim_dist.redaction import redacted

Rows = dict[tuple[str, str | None], dict[str, Any]]


@st.composite
def listings(draw: st.DrawFn) -> Rows:
    names = st.tuples(st.sampled_from("abcdé\n'"), st.sampled_from([None, "m", "n"]))
    values = st.tuples(
        st.sampled_from([None, "1", "2"]),  # etag
        st.integers(0, 2),  # offset
        st.sampled_from([None, "x", "y"]),  # group
        st.sampled_from(["train", "test"]),
    )
    found = draw(st.dictionaries(names, values, max_size=12))
    return {
        (uri, member): {
            "image_id": uri,
            "uri": uri,
            "member": member,
            "offset": offset,
            "length": 5,
            "size": 9,
            "etag": etag,
            "group": group,
            "split": split,
        }
        for (uri, member), (etag, offset, group, split) in found.items()
    }


def table(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(list(rows.values()), ROWS_SCHEMA)


def keys(rows: SortedRows) -> list[tuple[str, str | None]]:
    return [(r["uri"], r["member"]) for t in rows.tables() for r in t.to_pylist()]


@given(listings(), listings())
def test_changes_are_those_of_sets(now, earlier):
    with Workbench() as bench:
        path = bench.keep("now", [table(now)], ROWS_SCHEMA)
        found = compare(bench, path, bench.keep("earlier", [table(earlier)], ROWS_SCHEMA))
        changes = pq.read_table(found.changes).to_pylist()
        came = keys(found.rows)
    differ = {k for k in now.keys() & earlier.keys() if now[k] != earlier[k]}
    wanted = {
        "new": now.keys() - earlier.keys(),
        "changed": differ,
        "gone": earlier.keys() - now.keys(),
    }
    assert {kind: len(group) for kind, group in wanted.items() if group} == found.counts
    assert len(changes) == sum(map(len, wanted.values()))
    for row in changes:
        key = row["uri"], row["member"]
        assert key in wanted[row["change"]]
        assert row["etag"] == now.get(key, {}).get("etag")
        assert row["previous_etag"] == earlier.get(key, {}).get("etag")
        assert row["group"] == now.get(key, earlier.get(key))["group"]
    assert len(came) == len(set(came))
    assert set(came) == wanted["new"] | wanted["changed"]


@given(listings(), listings(), listings())
def test_unscored_rows_are_left(now, scored, more):
    """The score tables of several runs have the same image more than once."""
    with Workbench() as bench:
        some = [table(scored).select(SCORED_SCHEMA.names), table(more), table(scored)]
        found = keys(not_scored(bench, [table(now)], some))
    done = {
        tuple(row[name] for name in SCORED_SCHEMA.names)
        for row in (*scored.values(), *more.values())
    }
    wanted = [k for k, row in now.items() if tuple(row[n] for n in SCORED_SCHEMA.names) not in done]
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_addresses_with_secrets_are_known_by_their_rest():
    """Score tables hold them without secrets, and the next night has new signatures."""
    url = "https://me:{0}@host/a?id={1}&sig={0}"
    names = [url.format("one", number) for number in range(3)] + ["/data/a@b?.jpg", "s3://b/c@d"]
    plain = {"member": None, "offset": 0, "length": 5, "size": 9, "etag": "1", "group": "x"}
    rows = [{**plain, "image_id": uri, "uri": uri, "split": "test"} for uri in names]
    scored = [{**rows[0], "uri": redacted(url.format("two", 0))}, rows[3], rows[4]]
    with Workbench() as bench:
        tables = [pa.Table.from_pylist(part, ROWS_SCHEMA) for part in (rows, scored)]
        left = not_scored(bench, tables[:1], [tables[1].select(SCORED_SCHEMA.names)])
        assert keys(left) == [(names[1], None), (names[2], None)]
