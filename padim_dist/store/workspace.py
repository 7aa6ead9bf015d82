"""The layout of a workspace: where everything is, and what it is called.

::

    manifests/<snapshot>/{part-*.parquet, shards.parquet, manifest.json}
    weights/<digest>.pt
    moments/<fit_id>/<group>/part-*.{zarr,json}
    models/<model_id>.zarr, models/<model_id>/<group>/band-*.json
    runs/<run_id>/{run.json, scores/shard-*.parquet, heatmaps.zarr, metrics.json}

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

FORMAT = 1
"""Version of the workspace's formats; part of every id."""


def content_id(content: Mapping[str, Any]) -> str:
    """Content address of settings: the same for equal content, whatever the order of keys."""
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def group_slug(group: str) -> str:
    """A group's name as one safe path element.

    Examples
    --------
    >>> group_slug("line 4/cam"), group_slug("..")
    ('line%204%2Fcam', '%2E.')
    """
    slug = quote(group, safe="")
    return "%2E" + slug[1:] if slug.startswith(".") else slug


@dataclass(frozen=True)
class Workspace:
    """Paths inside a workspace folder."""

    folder: Folder

    def weights(self, digest: str) -> str:
        """State dict of a trunk."""
        return f"weights/{digest}.pt"

    def part(self, fit_id: str, group: str, part: int) -> str:
        """Moments of a part of a fit, without suffix: ``.zarr`` holds, ``.json`` receipts."""
        return f"moments/{fit_id}/{group_slug(group)}/part-{part:05d}"

    def model(self, model_id: str) -> str:
        """Zarr group of a model."""
        return f"models/{model_id}.zarr"

    def band(self, model_id: str, group: str, band: int) -> str:
        """Receipt of a band of cells of a model."""
        return f"models/{model_id}/{group_slug(group)}/band-{band:05d}.json"

    def run(self, run_id: str) -> str:
        """Folder of a run."""
        return f"runs/{run_id}"

    def scores(self, run_id: str, shard: int) -> str:
        """Score table of a shard: also the shard's receipt."""
        return f"runs/{run_id}/scores/shard-{shard:07d}.parquet"
