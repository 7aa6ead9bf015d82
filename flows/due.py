"""The name of an audit, and when its last night was due: a metric, computed at each request.

This module does not import prometheus_client before metrics are served, see `serve_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from padim_dist.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client import Metric


def audit_name(config: str) -> str:
    """Return the name of an audit in metrics and flow runs: that of its configuration.

    Examples
    --------
    >>> audit_name("/etc/padim-dist/line-1.yaml")
    'line-1'
    """
    return Path(config).stem


def _no_schedule(cron: str) -> ConfigError:
    return ConfigError(
        f"PADIM_DIST_CRON {cron!r} is no schedule of five fields (minute, hour, day, month, "
        "weekday); write e.g. '0 2 * * *', or leave it empty for none"
    )


def _check_form(cron: str) -> None:
    """Refuse what Prefect and cronsim read in different ways.

    Prefect also takes names such as ``@daily``, ``?``, and seconds as a sixth field, which is the
    first one to cronsim.
    """
    fields = cron.upper().split()
    if len(fields) != 5 or "?" in cron:
        raise _no_schedule(cron)
    _, _, day, _, weekday = fields
    steps = "/" in weekday or ("/" in day and weekday != "*")
    if steps or "L" in weekday or day == "LW":
        raise ConfigError(
            f"PADIM_DIST_CRON {cron!r}: steps and the last of weekdays, and steps of days beside "
            "weekdays, are read in different ways; write lists, e.g. '0 2 * * 1,3,5'"
        )


class Due:
    """Collector of the time at which the schedule started, or should have started, a night.

    Parameters
    ----------
    audit : str
        Name of the audit.
    cron, timezone : str, str
        The schedule and its time zone.

    Raises
    ------
    ConfigError
        If the schedule or the time zone is none, or Prefect would read the schedule otherwise.
    """

    def __init__(self, audit: str, cron: str, timezone: str) -> None:
        self._audit, self._cron = audit, cron
        try:
            self._zone = ZoneInfo(timezone)
        except (OSError, ValueError, LookupError) as error:
            raise ConfigError(
                f"PADIM_DIST_TIMEZONE {timezone!r} is no time zone; write e.g. Europe/Berlin"
            ) from error
        _check_form(cron)
        try:
            self.before(datetime.now(self._zone))
        except (CronSimError, StopIteration) as error:
            raise _no_schedule(cron) from error

    def before(self, now: datetime) -> datetime:
        """Return the last time of the schedule before a time.

        Examples
        --------
        >>> now = datetime.fromisoformat("2026-11-28T12:00:00+00:00")
        >>> Due("line-1", "0 2 * * 1-5", "UTC").before(now).isoformat()
        '2026-11-27T02:00:00+00:00'
        """
        found: datetime = next(CronSim(self._cron, now, reverse=True))
        return found

    def collect(self) -> Iterable[Metric]:
        """Return the metric."""
        from prometheus_client.core import GaugeMetricFamily

        metric = GaugeMetricFamily(
            "padim_dist_night_due_timestamp_seconds",
            "Last time at which the schedule starts a night.",
            labels=["audit"],
        )
        metric.add_metric([self._audit], self.before(datetime.now(self._zone)).timestamp())
        yield metric
