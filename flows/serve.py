"""Serve all flows from this machine: ``python -m flows.serve``.

Flow runs become processes of this machine, without a work pool or a container. Settings come
from the environment:

PADIM_DIST_CONFIG
    Path of the YAML file of the deployments. Required.
PADIM_DIST_CRON
    Cron expression of the nightly audit, five fields; default ``0 2 * * *``, empty: no schedule.
PADIM_DIST_TIMEZONE
    Time zone of the schedule; default ``UTC``.
PADIM_DIST_METRICS
    ``HOST:PORT`` of the Prometheus metrics of all flow runs; default: none.
PADIM_DIST_RETRIES
    Seconds before each retry of a stage; default ``30,300``, empty: no retry.
PREFECT_API_URL
    URL of the Prefect server. Required.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext

from flows.due import Due, audit_name
from padim_dist.config import load_config
from padim_dist.errors import ConfigError
from padim_dist.telemetry.server import serve_metrics


def main() -> None:
    """Serve until interrupted."""
    config = os.environ.get("PADIM_DIST_CONFIG")
    if not config:
        sys.exit("error: PADIM_DIST_CONFIG is not set; set it to the path of the YAML file")
    cron = os.environ.get("PADIM_DIST_CRON", "0 2 * * *")
    timezone = os.environ.get("PADIM_DIST_TIMEZONE", "UTC")
    metrics = os.environ.get("PADIM_DIST_METRICS")
    try:
        load_config(config)
        due = [Due(audit_name(config), cron, timezone)] if cron else []
        with serve_metrics(metrics, due) if metrics else nullcontext():
            from flows.deployments import serve_flows, wait_for_server
            from flows.outcomes import show_failed_flow, show_last_night
            from flows.stages import pauses

            pauses()
            if metrics:
                show_last_night(config)
            wait_for_server()
            if metrics:
                show_failed_flow(config)
            serve_flows(config, cron, timezone)
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
