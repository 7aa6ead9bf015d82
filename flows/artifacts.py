"""Prefect artifacts and events of a flow: progress, and the summary of a night."""

from __future__ import annotations

import base64
import logging
import time
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event

from padim_dist.api.settings.places import workspace_of
from padim_dist.archive.films.names import is_film
from padim_dist.config import Config
from padim_dist.escaping import markdown, markdown_link, visible
from padim_dist.events import Event, Listener, Progress, tell_all
from padim_dist.pages.night import night_markdown
from padim_dist.redaction import redacted
from padim_dist.store.nights import NightImage, NightSummary
from padim_dist.telemetry.measures import observe

logger = logging.getLogger("padim_dist")
_SECONDS_BETWEEN_UPDATES = 2.0


def watch(key: str) -> Listener:
    """Return a listener for a stage: a `ProgressArtifact` with this key, and the metrics."""
    return tell_all(ProgressArtifact(key), observe)


class ProgressArtifact:
    """A listener that shows the progress of a stage, updated every two seconds.

    Parameters
    ----------
    key : str
        Key of the artifact.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._artifact: UUID | None = None
        self._shown: tuple[str, float] = ("", 0.0)
        self._stages: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Show a `Progress`."""
        if not isinstance(event, Progress) or not event.total:
            return
        now = time.monotonic()
        stage, then = self._shown
        is_last = event.done == event.total
        if event.stage == stage and not is_last and now - then < _SECONDS_BETWEEN_UPDATES:
            return
        self._shown = event.stage, now
        try:
            self._show(event)
        except Exception as error:  # any error of the client: the work goes on
            logger.debug("progress is not shown: %s", error)

    def _show(self, event: Progress) -> None:
        percent = 100 * event.done / event.total
        unusable = f", {event.failed:,} unusable" if event.failed else ""
        self._stages[event.stage] = f"{event.stage}: {event.done:,} of {event.total:,}{unusable}"
        text = "; ".join(self._stages.values())  # earlier stages stay visible
        if self._artifact is None:
            # The annotation also covers callers that await; this one does not.
            self._artifact = cast(UUID, create_progress_artifact(percent, self._key, text))
        else:
            update_progress_artifact(self._artifact, percent, text)


def show_night(config: Config, summary: NightSummary) -> None:
    """Show a night: its summary, and a table and a picture of the most anomalous images."""
    create_markdown_artifact(night_markdown(summary), "night-summary", _title(summary))
    if summary.top:
        rows = [_row(image) for image in summary.top]
        create_table_artifact(rows, "top-anomalies", f"Most anomalous images, {_title(summary)}")
    if summary.picture:
        folder = workspace_of(config).folder
        path = summary.folder.removeprefix(redacted(folder.url)).strip("/")
        data = folder.read(f"{path}/top.jpg")
        # Inside the artifact: readers need no access to the storage.
        url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
        create_image_artifact(url, "contact-sheet", f"Most anomalous images, {_title(summary)}")


def tell_night(config: Config, summary: NightSummary) -> None:
    """Emit ``padim-dist.night.done`` or ``padim-dist.night.odd``, for automations."""
    emit_event(
        event=f"padim-dist.night.{summary.state}",
        resource={
            "prefect.resource.id": f"padim-dist.workspace.{redacted(config.workspace)}",
            "prefect.resource.name": redacted(config.archive.url),
        },
        payload={
            "night": summary.number,
            "day": summary.day,
            "title": visible(summary.title),
            "flagged": summary.flagged,
            "reasons": [*map(visible, summary.reasons)],
            "images": summary.images,
            "statuses": summary.statuses,
            "model_id": summary.model_id,
            "summary": f"{visible(summary.folder)}/summary.md",
        },
    )


def _title(summary: NightSummary) -> str:
    return visible(summary.headline)


def _row(image: NightImage) -> dict[str, Any]:
    # With its folder: file names repeat in the folders of cameras and defects.
    uri = redacted(image.uri)
    name = "/".join(uri.split("/")[-2:])
    if image.member:  # of a frame its time in the film
        name = f"{name} {image.member}" if is_film(image.uri) else image.member
    return {
        "score": round(image.score, 2),
        "p-value": None if image.p_value is None else float(f"{image.p_value:.2g}"),
        "flagged": image.flagged,
        "group": None if image.group is None else markdown(image.group),
        "image": markdown_link(name, uri) if "://" in uri else markdown(uri),
        "peak (y, x)": f"({image.peak_y}, {image.peak_x})",
        "run": image.run_id,
    }
