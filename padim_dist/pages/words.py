"""Numbers and names of the report as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from padim_dist.pages.data import Alarms, Anomaly, Failure, Threshold

_NONE = "–"


def count(value: int | None) -> str:
    """A whole number.

    Examples
    --------
    >>> count(1234567), count(None)
    ('1,234,567', '–')
    """
    return _NONE if value is None else f"{value:,}"


def few(value: float | None) -> str:
    """A number of which the size matters.

    Examples
    --------
    >>> few(0.123), few(9.96), few(1234.5)
    ('0.12', '10', '1,234')
    """
    if value is None or math.isnan(value):
        return _NONE
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.2g}"


def score(value: float | None) -> str:
    """A score, or a ratio.

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
    """A p-value.

    Examples
    --------
    >>> probability(0.04321), probability(3.2e-7)
    ('0.043', '3.2e-7')
    """
    if value is None:
        return _NONE
    return f"{value:.2g}".replace("e-0", "e-")


def share(value: float | None) -> str:
    """A figure of merit."""
    return _NONE if value is None else f"{value:.4f}"


def interval(value: Threshold | None) -> str:
    """A threshold with its interval."""
    if value is None:
        return _NONE
    if value.low == value.high:
        return score(value.value)
    return f"{score(value.value)} ({score(value.low)} to {score(value.high)})"


def pair(value: tuple[float, float]) -> str:
    """Median and highest."""
    return " / ".join(f"{x:,.0f}" if x < 1e6 else f"{x:.1e}".replace("e+0", "e") for x in value)


def percent_pair(value: tuple[float, float]) -> str:
    """Median and highest, as percentages."""
    return " / ".join(f"{100 * x:.1f} %" for x in value)


def minute(value: str) -> str:
    """A time, UTC like all of them, to the minute."""
    return value[:16].replace("T", " ") + " UTC"


def words(status: str) -> str:
    """A status."""
    return status.replace("_", " ")


def full_name(row: Anomaly | Failure) -> str:
    """Address of an image, and its name in a tar file."""
    return f"{row.uri} ({row.member})" if row.member else row.uri


def described(item: Anomaly) -> str:
    """What a picture shows, for those who cannot see it."""
    peak = f"highest at y {item.peak[0]}, x {item.peak[1]} of {item.height} by {item.width} pixels"
    regions = len(item.regions)
    found = f", {regions} anomalous region{'s' if regions > 1 else ''}" if regions else ""
    return f"{item.name} with its heat{found}, {peak}"


def rule(alarms: Alarms) -> str:
    """The rule of the alarms in words."""
    if alarms.rule == "fdr":
        return f"of them {100 * alarms.asked:.3g} % may be false (fdr {alarms.asked:g})"
    share_of = alarms.flagged / alarms.judged if alarms.judged else 0.0
    asked = {
        "alpha": "of normal images",
        "per_million": "false alarms in a million",
        "a_run": "false alarms a run",
    }
    return f"{100 * share_of:.2g} % of those scored; asked: {alarms.asked:g} {asked[alarms.rule]}"


def settings_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML; of addresses that hold a name and password these are left out."""
    text: str = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    return without_secrets(text)


def without_secrets(text: str) -> str:
    """Text in which no address holds a name and password.

    Examples
    --------
    >>> without_secrets("s3://me:secret@host/x?sig=abc y")
    's3://…@host/x?… y'
    """
    text = re.sub(r"://[^\s/@]+@", "://…@", text)
    return re.sub(r"(://[^\s?]+)\?\S+", r"\1?…", text)
