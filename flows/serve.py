"""Serve all flows from this machine: ``python -m flows.serve``.

No work pool, no container: flow runs become processes of this machine. Settings come
from the environment:

PADIM_DIST_CONFIG
    Path of the YAML file that the schedule uses. Needed.
PADIM_DIST_CRON
    When nights are audited, as cron says it; ``0 2 * * *`` by default. Empty: never.
PADIM_DIST_TIMEZONE
    Of the schedule; ``UTC`` by default.
PADIM_DIST_METRICS
    ``HOST:PORT`` to serve Prometheus metrics of all flow runs at; by default they are not.
PADIM_DIST_RETRIES
    Seconds before each retry of a stage; ``30,300`` by default, empty: no retry.
PREFECT_API_URL
    The Prefect server. Needed.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from typing import Any, cast

from prefect import get_client, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.settings import get_current_settings

from flows.jobs import backfill, fit, score
from flows.night import nightly_audit
from flows.stages import pauses
from padim_dist.config import load_config
from padim_dist.errors import ConfigError
from padim_dist.telemetry.server import serve_metrics

TAGS = ["padim-dist"]
_PATIENCE = 60.0
"""Seconds to wait for a server that may have been started at this moment."""


def deployments(config: str, cron: str, timezone: str) -> list[RunnerDeployment]:
    """All flows as deployments of one configuration."""
    # Two nights at once would wait for each other's lease. What came while a night takes
    # longer than a day is not lost: the next one covers it.
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
        nightly_audit.to_deployment("nightly", schedule=schedule, tags=TAGS, **common, **one),
        fit.to_deployment("fit", tags=TAGS, **common, **queue),
        score.to_deployment("score", tags=TAGS, **common, **queue),
        backfill.to_deployment("backfill", tags=TAGS, **common, **queue),
    ]
    # The annotation also covers callers that await it; this one does not.
    return cast(list[RunnerDeployment], made)


def wait_for_server() -> None:
    """Wait until the Prefect server answers; end in words where it does not."""
    url = get_current_settings().api.url
    if not url:
        sys.exit(
            "PREFECT_API_URL is not set: the Prefect server, e.g. http://127.0.0.1:4200/api after "
            "'prefect server start'"
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


def main() -> None:
    """Serve until interrupted."""
    config = os.environ.get("PADIM_DIST_CONFIG")
    if not config:
        sys.exit("PADIM_DIST_CONFIG is not set: the path of the YAML file with the settings")
    try:
        load_config(config)
        pauses()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    wait_for_server()
    cron = os.environ.get("PADIM_DIST_CRON", "0 2 * * *")
    served = deployments(config, cron, os.environ.get("PADIM_DIST_TIMEZONE", "UTC"))
    # So that the pages of flow runs show what the package has to say.
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "padim_dist")
    metrics = os.environ.get("PADIM_DIST_METRICS")
    try:
        with serve_metrics(metrics) if metrics else nullcontext():
            serve(*served)
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
