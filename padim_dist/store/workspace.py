"""The layout of a workspace: paths and ids.

::

    manifests/<snapshot>/{part-*.parquet, shards.parquet, manifest.json}
    weights/<digest>.pt
    networks/<what is asked for>.json
    references/{<digest>.npz, <images>/<group>.json}
    snapshots/<archive>/{<number>.json, changes-*.parquet}
    moments/<embedding>/<group>/{<part>-*.zarr, <part>.json}
    fits/<fit_id>/fit.json
    models/<model_id>.zarr, with .receipts/<group>/band-*.json, .normals/<group>.parquet and
        (temporary) .left_out
    runs/<run_id>/{the head, scores/shard-*.parquet, regions/shard-*.parquet}
    turns/<number>.json
    runs/<run_id>/{heatmaps.zarr, means.zarr, drift.zarr, drift/<group>.json, metrics.json}
    runs/<run_id>/{files.json, compact.json}
    promotions/<number>.json
    forgotten/<archive>/<number>.json
    reviews/<number>.json
    nights/<archive>/{<number>.json, night-<number>/{summary.json, summary.md, top.jpg}}
    published/<place>/runs/<run_id>.json
    set_aside/<rows>.json
    pruned/{runs-<month>.json, known.parquet}

A fit, run, night, prune or publication in progress has a ``lease-*.json`` in its folder.

Ids are content addresses: different settings give different ids, so results never mix. A receipt is
a small file, written last and in one atomic put: its files are complete if it exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from padim_dist.storage import Folder

Settings = Mapping[str, Any]
"""Settings of an archive, as JSON values."""
FORMAT = 4
"""Version of the workspace's formats; part of every id."""
_LONGEST = 80
"""Most characters of a slug, without its digest."""


def content_id(content: Mapping[str, Any]) -> str:
    """Return the content address of settings; the order of keys does not matter."""
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def group_slug(group: str) -> str:
    """Return a group's name as a path element that is safe, short and distinct on every system.

    Examples
    --------
    >>> group_slug("cam-4"), group_slug("Cam/4")
    ('cam-4', 'Cam%2F4~5f1cf725')
    """
    slug = quote(group, safe="")
    taken = slug == "zarr.json" or slug[0] == "."  # Zarr has a file of this name
    if len(slug) <= _LONGEST and slug == slug.lower() and "%" not in slug and not taken:
        return slug
    digest = hashlib.sha256(group.encode()).hexdigest()[:8]
    return f"{slug[:_LONGEST].lstrip('.')}~{digest}"


@dataclass(frozen=True)
class Workspace:
    """All paths inside a workspace folder; the folder is closed: none leads out of it."""

    folder: Folder

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", replace(self.folder, is_closed=True))

    histories, promotions, reviews = "snapshots", "promotions", "reviews"
    models, runs = "models", "runs"
    all_nights, manifests, fits, moments = "nights", "manifests", "fits", "moments"
    turns, pruned, all_published = "turns", "pruned", "published"
    """Folders of the newest turns of runs, of what is kept of what was pruned, and of what is known
    of published tables."""

    def at(self, *parts: str) -> str:
        """Return the URL (or local path) of a path in the workspace."""
        return self.folder.at(*parts)

    def manifest(self, snapshot: str) -> str:
        """Folder of a manifest."""
        return f"{self.manifests}/{snapshot}"

    def history(self, settings: Settings) -> str:
        """Folder of the history of an archive with these settings."""
        return f"{self.histories}/{_archive_id(settings)}"

    def forgotten(self, settings: Settings) -> str:
        """Folder of the list of an archive's forgotten images, whatever its other settings."""
        return f"forgotten/{content_id({'url': settings['url']})}"

    def nights(self, settings: Settings) -> str:
        """Folder of the nights of an archive."""
        return f"{self.all_nights}/{_archive_id(settings)}"

    def night(self, settings: Settings, number: int) -> str:
        """Folder of the results of a night."""
        return f"{self.nights(settings)}/night-{number:05d}"

    def weights(self, digest: str) -> str:
        """State dict of a trunk."""
        return f"weights/{digest}.pt"

    def network(self, asked: str) -> str:
        """Which converted network a trunk has."""
        return f"networks/{asked}.json"

    def reference(self, digest: str) -> str:
        """Picture that images are aligned with."""
        return f"references/{digest}.npz"

    def group_reference(self, images: str, group: str) -> str:
        """Which picture the images of a group are aligned with."""
        return f"references/{images}/{group_slug(group)}.json"

    def part(self, embedding: str, group: str, part: str) -> str:
        """Receipt of a part; it names the Zarr group with its moments."""
        return f"{self.moments}/{embedding}/{group_slug(group)}/{part}.json"

    def fit(self, fit_id: str) -> str:
        """Folder of a fit."""
        return f"{self.fits}/{fit_id}"

    def model(self, model_id: str) -> str:
        """Zarr group of a model."""
        return f"{self.models}/{model_id}.zarr"

    def model_group(self, model_id: str, group: str) -> str:
        """Zarr group of a group of a model."""
        return f"{self.model(model_id)}/{group_slug(group)}"

    def band(self, model_id: str, state: str, group: str, band: int) -> str:
        """Receipt of a band of cells of a model that is made from a state of its parts."""
        return f"{self._receipts(model_id, group)}/band-{band:05d}-{state}.json"

    def calibrated(self, model_id: str, group: str) -> str:
        """Receipt of the calibration of a group of a model."""
        return f"{self._receipts(model_id, group)}/calibration.json"

    def drop_round(self, model_id: str, state: str, group: str, number: int) -> str:
        """Receipt of a round of dropping suspects from a group, in a state of the model's parts."""
        return f"{self._receipts(model_id, group)}/drop-{number:03d}-{state}.json"

    def normals(self, model_id: str, group: str) -> str:
        """Table of the normal images of a group of a model."""
        return f"{self.model(model_id)}/.normals/{group_slug(group)}.parquet"

    def all_left_out(self, model_id: str) -> str:
        """Folder of the leave-one-out results of parts, temporary."""
        return f"{self.model(model_id)}/.left_out"

    def left_out(self, model_id: str, state: str, group: str, part: str) -> str:
        """Leave-one-out results of a part, by the name of its moments and the parts' state."""
        return f"{self.all_left_out(model_id)}/{state}/{group_slug(group)}/{part}.npz"

    def published(self, place: str) -> str:
        """Folder of what is known of the published tables at a place."""
        return f"{self.all_published}/{content_id({'place': place})}"

    def set_aside(self, rows: str) -> str:
        """List of a shard's images that kill the worker that reads them."""
        return f"set_aside/{rows}.json"

    def run(self, run_id: str) -> str:
        """Folder of a run."""
        return f"{self.runs}/{run_id}"

    def _receipts(self, model_id: str, group: str) -> str:
        return f"{self.model(model_id)}/.receipts/{group_slug(group)}"


def _archive_id(settings: Settings) -> str:
    return content_id({"archive": dict(settings)})
