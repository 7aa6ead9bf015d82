"""The page of the published tables: its columns and statements are those of the code.

    python -m tests.docs.test_tables

writes them anew.
"""

from __future__ import annotations

from pathlib import Path

from padim_dist.api.publish.columns import IMAGES, REGIONS, Column, athena_ddl, trino_ddl

PAGE = Path(__file__).parents[2] / "docs/tables.md"
START = "<!-- made by python -m tests.docs.test_tables -->\n"
TABLES = {"images": IMAGES, "regions": REGIONS}


def listed(columns: tuple[Column, ...]) -> str:
    rows = [f"| `{one.name}` | {one.type} | {one.meaning} |" for one in columns]
    return "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])


def made() -> str:
    """Return the rest of the page: columns, then statements."""
    parts = [f"### {name}\n\n{listed(columns)}" for name, columns in TABLES.items()]
    parts.append(
        "## Layout of Hive in Athena\n\nPartitions are projected: a new day is there without "
        "another statement."
    )
    place = "s3://platform/tables"
    for name, columns in TABLES.items():
        parts.append(f"```\n{athena_ddl(name, columns, f'{place}/{name}/')}\n```")
    parts.append(
        "## Layout of Hive in Trino\n\nAfter each night: "
        "`CALL hive.system.sync_partition_metadata('audits', 'images', 'FULL')`, and the same for "
        "`regions`."
    )
    for name, columns in TABLES.items():
        statement = trino_ddl(f"hive.audits.{name}", columns, f"{place}/{name}/")
        parts.append(f"```\n{statement}\n```")
    return "\n\n".join(parts) + "\n"


def test_its_columns_and_statements_are_those_of_the_code():
    assert PAGE.read_text().partition(START)[2] == made()


def test_each_column_has_a_meaning_without_quotes():
    for columns in TABLES.values():
        assert len({one.name for one in columns}) == len(columns)
        assert all(one.meaning and not set("'|\\") & set(one.meaning) for one in columns)


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().partition(START)[0] + START + made())
