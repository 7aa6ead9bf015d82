"""The flows as deployments of one configuration, served by this process.

prometheus_client chooses the files of the metrics when it is imported, and Prefect imports it: so
`flows.serve` imports this module once it serves metrics.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, cast

from prefect import get_client, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.settings import get_current_settings

from flows.jobs import backfill, fit, score
from flows.night import nightly_audit
from flows.outcomes import NIGHTLY

TAGS = ["padim-dist"]
_PATIENCE = 60.0
"""Seconds to wait for a server that may be starting."""


def deployments(config: str, cron: str, timezone: str) -> list[RunnerDeployment]:
    """Return all flows as deployments of one configuration."""
    # Two nights at once would wait for the same lease. If a night takes longer than a day, the
    # next one covers the images that came in between.
    one: dict[str, Any] = {
        "concurrency_limit": ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        )
    }
    queue: dict[str, Any] = {
        "concurrency_limit": ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        )
    }
    common: dict[str, Any] = {"parameters": {"config": config}}
    schedule = Cron(cron, timezone=timezone) if cron else None
    made = [
        nightly_audit.to_deployment(NIGHTLY, schedule=schedule, tags=TAGS, **common, **one),
        fit.to_deployment("fit", tags=TAGS, **common, **queue),
        score.to_deployment("score", tags=TAGS, **common, **queue),
        backfill.to_deployment("backfill", tags=TAGS, **common, **queue),
    ]
    # The annotation also covers callers that await; this one does not.
    return cast(list[RunnerDeployment], made)


def wait_for_server() -> None:
    """Wait until the Prefect server answers; exit with a message if it does not."""
    url = get_current_settings().api.url
    if not url:
        sys.exit(
            "error: PREFECT_API_URL is not set; set it to the URL of the Prefect server, e.g. "
            "http://127.0.0.1:4200/api after 'prefect server start'"
        )
    end = time.monotonic() + _PATIENCE
    with get_client(sync_client=True) as client:
        while error := client.api_healthcheck():
            if time.monotonic() > end:
                sys.exit(
                    f"error: no Prefect server answers at {url} ({error}); start one with "
                    "'prefect server start', or correct PREFECT_API_URL"
                )
            time.sleep(1.0)


def serve_flows(config: str, cron: str, timezone: str) -> None:
    """Serve all flows until interrupted.

    Parameters
    ----------
    config : str
        Path of the configuration.
    cron, timezone : str, str
        Schedule of the nightly audit, empty: none; its time zone.
    """
    # The pages of flow runs then show the log of the package.
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "padim_dist")
    serve(*deployments(config, cron, timezone))
