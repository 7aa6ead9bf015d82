"""Made-up nights of an archive, for tests that need no scored image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from padim_dist.api.settings.places import archive_settings, archive_title, workspace_of
from padim_dist.config import Config
from padim_dist.store.nights import (
    DriftNight,
    GroupNight,
    Night,
    NightSummary,
    add_night,
    put_summary,
)

MODEL = "m" * 16


def group(
    median: float = 10.0, flagged: int | None = 0, images: int = 100, excess: float = 0.0
) -> GroupNight:
    drift = DriftNight(excess, 0.5, excess > 2)
    return GroupNight(images, images, median, 2 * median, flagged, 0.01, drift)


def made_night(
    number: int, groups: Mapping[str, GroupNight], archive: str = "photos", **changes: Any
) -> NightSummary:
    images = sum(one.images for one in groups.values())
    at = f"2026-11-{24 + number:02d}T02:00:00+00:00"
    values: dict[str, Any] = {
        "number": number,
        "state": "done",
        "reasons": [],
        "day": at[:10],
        "model_id": MODEL,
        "images": images,
        "statuses": {"scored": images} if images else {},
        "groups": dict(groups),
        "top": [],
        "runs": [f"{number:016x}"] if images else [],
        "folder": "",
        "picture": False,
        "opened_at": at,
        "finished_at": at,
        "archive": archive,
    }
    return NightSummary(**{**values, **changes})


def put_night(config: Config, summary: NightSummary | int) -> None:
    """Write a finished night, or open one of a number."""
    workspace, settings = workspace_of(config), archive_settings(config)
    number = summary if isinstance(summary, int) else summary.number
    night = Night(
        number=number,
        path=workspace.night(settings, number),
        first=1,
        last=1,
        snapshots=[],
        model_id=MODEL,
        opened_at=f"2026-11-{24 + number:02d}T02:00:00+00:00",
        opened_by="me",
    )
    assert add_night(workspace, settings, night)
    if isinstance(summary, NightSummary):
        assert summary.archive == archive_title(config)
        put_summary(workspace, night, summary)
