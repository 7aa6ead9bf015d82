"""When a night was due: by the schedule, in its time zone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from flows.due import Due
from padim_dist.errors import ConfigError


@pytest.mark.parametrize(
    ("cron", "zone", "now", "expected"),
    [
        ("0 2 * * *", "UTC", "2026-11-28T01:59:00", "2026-11-27T02:00:00+00:00"),
        ("0 2 * * *", "UTC", "2026-11-28T02:00:30", "2026-11-28T02:00:00+00:00"),
        ("0 2 * * 1-5", "UTC", "2026-11-29T12:00:00", "2026-11-27T02:00:00+00:00"),
        ("0 2 * * *", "Europe/Berlin", "2026-07-01T12:00:00", "2026-07-01T02:00:00+02:00"),
        ("0 2 * * *", "Europe/Berlin", "2026-10-26T12:00:00", "2026-10-26T02:00:00+01:00"),
    ],
)
def test_the_last_time_of_a_schedule(cron, zone, now, expected):
    at = datetime.fromisoformat(now).replace(tzinfo=ZoneInfo(zone))
    assert Due("line", cron, zone).before(at).isoformat() == expected


@pytest.mark.parametrize(
    ("cron", "zone", "message"),
    [
        ("often", "UTC", "PADIM_DIST_CRON 'often' is no schedule"),
        ("0 0 31 2 *", "UTC", "is no schedule"),
        ("@daily", "UTC", "'@daily' is no schedule of five fields"),
        ("0 0 2 * * *", "UTC", "is no schedule of five fields"),
        ("0 2 * * ?", "UTC", "is no schedule of five fields"),
        ("0 2 * * fri-mon", "UTC", "is no schedule of five fields"),
        ("0 2 */2 * 1", "UTC", "write lists, e.g. '0 2"),
        ("0 2 1 * */2", "UTC", "write lists"),
        ("0 2 * * 5/2", "UTC", "write lists"),
        ("0 2 * * 5L", "UTC", "write lists"),
        ("0 2 LW * *", "UTC", "write lists"),
        ("0 2 * * *", "Europe/Nowhere", "PADIM_DIST_TIMEZONE 'Europe/Nowhere' is no time zone"),
    ],
)
def test_what_is_none_is_named(cron, zone, message):
    with pytest.raises(ConfigError, match=message):
        Due("line", cron, zone)


@pytest.mark.parametrize(
    "cron",
    [
        "0 2 * * *",
        "*/20 1-5,22 1,15 * 1",
        "0 2 L * *",
        "30 4 */2 jan-jun *",
        "0 2 * * sun,7",
        "0 2 * * 1#2",
    ],
)
def test_prefect_reads_it_in_the_same_way(cron):
    now = datetime(2026, 11, 28, 2, 0, 30, tzinfo=ZoneInfo("UTC"))
    schedule = CronSchedule(cron=cron, timezone="UTC")
    found = asyncio.run(schedule.get_dates(n=40, start=now))
    times = [datetime.fromtimestamp(time.timestamp(), UTC) for time in found]
    due = Due("line", cron, "UTC")
    assert [due.before(following) for following in times[1:]] == times[:-1]
