"""The check of the addresses of messages, for `doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from padim_dist.api.findings import Finding
from padim_dist.api.nights.notify import services_to_tell
from padim_dist.config import Config
from padim_dist.pages.words import listed


def message_findings(config: Config) -> Iterator[Finding]:
    """Look at the addresses of messages, without sending one."""
    notify = config.notify
    notices = services_to_tell(config)
    if known := [notice.service for notice in notices if notice.error is None]:
        told = f"{', '.join(notify.when)}: to {listed(known)}"
        yield Finding("messages", "ok", f"{told}; nothing was sent")
    for notice in notices:
        if notice.error is not None:
            yield Finding(
                "messages",
                "warning",
                notice.describe(),
                f"correct notify.urls_from, or the variable {notify.urls_from}; nights do not "
                "fail since nobody is told",
            )
