"""The summary of a night in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from padim_dist.escaping import markdown, markdown_code
from padim_dist.pages.words import counted, full_name
from padim_dist.store.nights import DriftNight, NightSummary

_GROUPS = 30
_GROUP_COLUMNS = ["group", "images", "scored", "flagged", "median score", "highest score", "drift"]


def night_markdown(summary: NightSummary) -> str:
    """Return the summary: new images, what is odd, the groups, the most anomalous images."""
    counts = ", ".join(f"{n:,} {status}" for status, n in sorted(summary.statuses.items()))
    head = [
        f"# Night {summary.number}, {summary.day}: {summary.state}",
        "",
        *(f"- **{markdown(reason)}**" for reason in summary.reasons),
        *([""] if summary.reasons else []),
        f"{counted(summary.images, 'new image')}{counts and f' ({counts})'}. "
        f"Model: {markdown_code(summary.model_id)}.",
        "",
    ]
    return "\n".join([*head, *_groups(summary), *_top(summary), *_where(summary)])


def _groups(summary: NightSummary) -> list[str]:
    # The worst first, since only the first are shown.
    groups = sorted(summary.groups.items(), key=lambda item: -(item[1].highest or 0.0))
    rows = [
        [
            markdown_code(name),
            f"{group.images:,}",
            f"{group.scored:,}",
            "-" if group.flagged is None else f"{group.flagged:,}",
            _number(group.median),
            _number(group.highest),
            _drift(group.drift),
        ]
        for name, group in groups[:_GROUPS]
    ]
    table = _table("## Groups", _GROUP_COLUMNS, rows)
    if (left := len(groups) - _GROUPS) > 0:
        table += [f"Not shown: {counted(left, 'group')}; all are in summary.json.", ""]
    return table


def _top(summary: NightSummary) -> list[str]:
    rows = [
        [
            _number(image.score),
            "-" if image.p_value is None else f"{image.p_value:.1e}",
            "yes" if image.flagged else "-",
            markdown_code(str(image.group)),
            markdown_code(full_name(image)),
            f"({image.peak_y}, {image.peak_x})",
        ]
        for image in summary.top
    ]
    columns = ["score", "p-value", "flagged", "group", "image", "peak (y, x)"]
    return _table("## Most anomalous images", columns, rows)


def _where(summary: NightSummary) -> list[str]:
    base = summary.folder.split("/nights/")[0]
    runs = [f"- {markdown_code(f'{base}/runs/{run}')}" for run in summary.runs]
    return ["## Score tables and heatmaps", "", *runs, ""] if runs else []


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [names, ["---"] * len(names), *rows]
    return [title, "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _drift(drift: DriftNight | None) -> str:
    """Format the drift above its expected value, with its noise."""
    return "-" if drift is None else f"{drift.excess:+.2f} ± {drift.noise:.2f}"
