"""The summary of a night, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from padim_dist.store.nights import NightSummary

_GROUPS = 30


def night_markdown(summary: NightSummary) -> str:
    """Write a night's summary: what came, what is odd, the groups, the highest scores."""
    counts = ", ".join(f"{n:,} {status}" for status, n in sorted(summary.statuses.items()))
    head = [
        f"# Night {summary.number}, {summary.day}: {summary.state}",
        "",
        *(f"- **{reason}**" for reason in summary.reasons),
        *([""] if summary.reasons else []),
        f"{summary.images:,} images ({counts or 'none came'}), scored by model "
        f"`{summary.model_id}`.",
        "",
    ]
    return "\n".join([*head, *_groups(summary), *_top(summary), *_where(summary)])


def _groups(summary: NightSummary) -> list[str]:
    # The worst first: of many groups these are what somebody wants to see.
    groups = sorted(summary.groups.items(), key=lambda item: -(item[1].highest or 0.0))
    rows = [
        [
            _code(name),
            f"{group.images:,}",
            f"{group.scored:,}",
            _number(group.median),
            _number(group.highest),
        ]
        for name, group in groups[:_GROUPS]
    ]
    left = len(groups) - _GROUPS
    return [
        *_table("## Groups", ["group", "images", "scored", "median score", "highest"], rows),
        *([f"{left:,} more groups are in summary.json.", ""] if left > 0 else []),
    ]


def _top(summary: NightSummary) -> list[str]:
    rows = [
        [
            _number(row["score"]),
            _code(str(row["group"])),
            _code(row["uri"] + (f" ({row['member']})" if row["member"] else "")),
            f"({row['peak_y']}, {row['peak_x']})",
        ]
        for row in summary.top
    ]
    return _table("## Highest scores", ["score", "group", "image", "peak (y, x)"], rows)


def _where(summary: NightSummary) -> list[str]:
    """Where the rest of it lies."""
    base = summary.folder.split("/nights/")[0]
    runs = [f"- `{base}/runs/{run}`" for run in summary.runs]
    return ["## Score tables and heatmaps", "", *runs, ""] if runs else []


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [names, ["---"] * len(names), *rows]
    return [title, "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def _code(text: str) -> str:
    """A name as it is, whatever is in it, also inside a table."""
    return f"`{text}`".replace("|", "\\|")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
