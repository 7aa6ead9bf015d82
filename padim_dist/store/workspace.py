"""The layout of a workspace: where everything is, and what it is called.

::

    manifests/<snapshot>/{part-*.parquet, shards.parquet, manifest.json}
    weights/<digest>.pt
    snapshots/<archive>/{<number>.json, changes-*.parquet}
    moments/<embedding>/<group>/{<part>-*.zarr, <part>.json}
    fits/<fit_id>/fit.json
    models/<model_id>.zarr, with .receipts/<group>/band-*.json and, for a time, .left_out
    runs/<run_id>/{run.json, scores/shard-*.parquet, regions/shard-*.parquet}
    runs/<run_id>/{heatmaps.zarr, means.zarr, drift.zarr, drift/<group>.json, metrics.json}
    promotions/<number>.json
    nights/<archive>/{<number>.json, night-<number>/{summary.json, summary.md, top.jpg}}
    set_aside/<rows>.json

A fit, a run and a night that is being worked on has a ``lease-*.json`` in its folder.

Ids are content addresses: other settings make another id, so nothing is ever mixed. A
receipt is a small file written last and in one atomic put: it says that what it
stands for is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from padim_dist.storage import Folder

FORMAT = 4
"""Version of the workspace's formats; part of every id."""


_LONGEST = 80
"""Of a slug, without its digest."""


def content_id(content: Mapping[str, Any]) -> str:
    """Content address of settings: the same for equal content, whatever the order of keys."""
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def group_slug(group: str) -> str:
    """A group's name as one safe path element, short and distinct whatever the file system.

    Examples
    --------
    >>> group_slug("cam-4"), group_slug("Cam/4")
    ('cam-4', 'Cam%2F4~5f1cf725')
    """
    slug = quote(group, safe="")
    # Zarr keeps a file of this name beside the groups.
    taken = slug == "zarr.json" or slug[0] == "."
    if len(slug) <= _LONGEST and slug == slug.lower() and "%" not in slug and not taken:
        return slug
    digest = hashlib.sha256(group.encode()).hexdigest()[:8]
    return f"{slug[:_LONGEST].lstrip('.')}~{digest}"


@dataclass(frozen=True)
class Workspace:
    """Paths inside a workspace folder."""

    folder: Folder

    def weights(self, digest: str) -> str:
        """State dict of a trunk."""
        return f"weights/{digest}.pt"

    def part(self, embedding: str, group: str, part: str) -> str:
        """Receipt of a part; it names the Zarr group with the part's moments."""
        return f"moments/{embedding}/{group_slug(group)}/{part}.json"

    def model(self, model_id: str) -> str:
        """Zarr group of a model."""
        return f"models/{model_id}.zarr"

    def band(self, model_id: str, group: str, band: int) -> str:
        """Receipt of a band of cells of a model."""
        return f"models/{model_id}.zarr/.receipts/{group_slug(group)}/band-{band:05d}.json"

    def calibrated(self, model_id: str, group: str) -> str:
        """Receipt of the calibration of a group of a model."""
        return f"models/{model_id}.zarr/.receipts/{group_slug(group)}/calibration.json"

    def all_left_out(self, model_id: str) -> str:
        """Folder of what samples say while a model is being calibrated."""
        return f"models/{model_id}.zarr/.left_out"

    def left_out(self, model_id: str, group: str, part: str) -> str:
        """What the sample of a part says, by the name of its moments."""
        return f"{self.all_left_out(model_id)}/{group_slug(group)}/{part}.npz"

    def fit(self, fit_id: str) -> str:
        """Folder of a fit: what was asked."""
        return f"fits/{fit_id}"

    def set_aside(self, rows: str) -> str:
        """Images of a shard's rows that kill the worker which reads them."""
        return f"set_aside/{rows}.json"

    def run(self, run_id: str) -> str:
        """Folder of a run."""
        return f"runs/{run_id}"

    def scores(self, run_id: str, shard: int) -> str:
        """Score table of a shard: also the shard's receipt."""
        return f"{self.run(run_id)}/scores/shard-{shard:07d}.parquet"

    def regions(self, run_id: str, shard: int) -> str:
        """Regions of the flagged images of a shard."""
        return f"{self.run(run_id)}/regions/shard-{shard:07d}.parquet"

    def drifted(self, run_id: str, group: str) -> str:
        """Receipt of the drift of a group in a run: its figures."""
        return f"{self.run(run_id)}/drift/{group_slug(group)}.json"
