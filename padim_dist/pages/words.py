"""Formats of numbers and names in the report and in messages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from typing import Any

import yaml

from padim_dist.pages.cards import GalleryImage
from padim_dist.pages.data import FlagSummary, Threshold
from padim_dist.pages.heat import HeatScale
from padim_dist.redaction import redacted
from padim_dist.store.nights import NightImage
from padim_dist.store.reviews import Verdict
from padim_dist.store.runs.rows import ScoreRow

_NONE = "–"


def count(value: int | None) -> str:
    """Return a whole number with separators.

    Examples
    --------
    >>> count(1234567), count(None)
    ('1,234,567', '–')
    """
    return _NONE if value is None else f"{value:,}"


def counted(value: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> counted(1, "group"), counted(2000, "group")
    ('1 group', '2,000 groups')
    """
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def part_of(part: int, whole: int, noun: str) -> str:
    """Return a part of a count with its noun.

    Examples
    --------
    >>> part_of(2, 3, "group"), part_of(1, 1, "group")
    ('2 of 3 groups', '1 group')
    """
    return counted(whole, noun) if part == whole == 1 else f"{part:,} of {counted(whole, noun)}"


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names with commas, cut to the first `most`.

    Examples
    --------
    >>> listed(["a", "b"]), listed("abc", most=2)
    ('a, b', 'a, b and 1 more')
    """
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def few(value: float | None) -> str:
    """Return a number with two significant digits, or with all its whole digits.

    Examples
    --------
    >>> few(0.123), few(9.96), few(1234.5)
    ('0.12', '10', '1,234')
    """
    if value is None or math.isnan(value):
        return _NONE
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.2g}"


def score(value: float | None) -> str:
    """Return a score or a ratio.

    Examples
    --------
    >>> score(12.3456), score(0.01234), score(float("inf"))
    ('12.35', '0.01234', '∞')
    """
    if value is None or math.isnan(value):
        return _NONE
    if math.isinf(value):
        return "∞"
    return f"{value:,.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4g}"


def probability(value: float | None) -> str:
    """Return a p-value with two significant digits.

    Examples
    --------
    >>> probability(0.04321), probability(3.2e-7)
    ('0.043', '3.2e-7')
    """
    return _NONE if value is None else f"{value:.2g}".replace("e-0", "e-")


def metric(value: float | None) -> str:
    """Return an evaluation metric with four decimals."""
    return _NONE if value is None else f"{value:.4f}"


def interval(value: Threshold | None) -> str:
    """Return a threshold with its confidence interval."""
    if value is None:
        return _NONE
    if value.low == value.high:
        return score(value.value)
    return f"{score(value.value)} ({score(value.low)} to {score(value.high)})"


def film_time(seconds: float) -> str:
    """Return a time in a film.

    Examples
    --------
    >>> film_time(12.48), film_time(3723.5), film_time(-0.04)
    ('0:12.48', '1:02:03.50', '-0:00.04')
    """
    hundredths = round(abs(seconds) * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    sign = "-" if seconds < 0 else ""
    return f"{sign}{start}:{rest // 100:02d}.{rest % 100:02d}"


def pair(value: tuple[float, float]) -> str:
    """Return a median and a maximum."""
    return " / ".join(f"{x:,.0f}" if x < 1e6 else f"{x:.1e}".replace("e+0", "e") for x in value)


def percent_pair(value: tuple[float, float]) -> str:
    """Return a median and a maximum as percentages."""
    return " / ".join(f"{100 * x:.1f} %" for x in value)


def minute(value: str) -> str:
    """Return a time (ISO 8601, UTC) to the minute."""
    return value[:16].replace("T", " ") + " UTC"


def full_name(row: ScoreRow | NightImage) -> str:
    """Return the address of an image, with its name in a tar file."""
    return f"{row.uri} ({row.member})" if row.member else row.uri


def described(item: GalleryImage) -> str:
    """Return the alternative text of a picture."""
    row = item.row
    peak = f"peak at y {row.peak_y}, x {row.peak_x} of {row.height} by {row.width} pixels"
    found = f", {counted(len(item.regions), 'anomalous region')}" if item.regions else ""
    return f"{item.name} with its heatmap{found}, {peak}"


def flagged_share(alarms: FlagSummary) -> str:
    """Return the share of flagged images and the rule that flags them."""
    share = alarms.flagged / alarms.judged if alarms.judged else 0.0
    return f"{100 * share:.3g} % of the scored images; {alarms.rule.describe()}"


def settings_yaml(settings: Mapping[str, Any]) -> str:
    """Return settings as YAML, without secrets."""
    text: str = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    return redacted(text)


def reviewed(review: Verdict) -> str:
    """Return the verdict of a person.

    Examples
    --------
    >>> at = "2026-11-26T08:00:00+00:00"
    >>> reviewed(Verdict(image_id="3f", verdict="defect", kind="crack", number=1, who="ann", at=at))
    'defect (crack), by ann, 2026-11-26 08:00 UTC'
    """
    kind = f" ({review.kind})" if review.kind else ""
    note = f": {review.note}" if review.note else ""
    return f"{review.verdict}{kind}, by {review.who}, {minute(review.at)}{note}"


def scale_range(scale: HeatScale) -> str:
    """Return the distances of a colour scale."""
    middle = "the threshold" if scale.is_threshold else "a high score"
    return (
        f"none up to {score(scale.start)}, red at {score(scale.middle)} ({middle}), yellow from "
        f"{score(scale.top)}"
    )


def level_shares(levels: Mapping[str, float]) -> str:
    """Return the shares of levels.

    Examples
    --------
    >>> level_shares({"fine": 0.125, "coarse": 0.875})
    'fine 12 %, coarse 88 %'
    """
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in levels.items())


def level_bars(levels: Mapping[str, float]) -> list[tuple[float, float]]:
    """Return where the bar of each level starts, and its width, in percent."""
    ends = [0.0, *accumulate(100 * share for share in levels.values())]
    return [(round(a, 2), round(b - a, 2)) for a, b in pairwise(ends)]


def rates(value: tuple[float, float]) -> str:
    """Return a point of a ROC in words.

    Examples
    --------
    >>> rates((0.005, 0.873))
    '87.3 % of the anomalous and 0.5 % of the good images are flagged'
    """
    false, true = value
    found, alarms = (f"{100 * share:.3g} %" for share in (true, false))
    return f"{found} of the anomalous and {alarms} of the good images are flagged"
