"""Sample reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from padim_dist.core.alarms import Alarms
from padim_dist.pages.data import (
    DriftMap,
    DriftPoint,
    FlagSummary,
    GroupFit,
    GroupRow,
    Histogram,
    LabelledGroup,
    LabelRow,
    Labels,
    ReportData,
    ReportHead,
    Threshold,
)
from padim_dist.pages.encode import HEAT_BYTES, PICTURE_BYTES, encode
from padim_dist.pages.gallery_data import Failure, GalleryImage, RegionBox
from padim_dist.pages.heat import heat_layer

HOSTILE = "<img src=x onerror=alert(1)>.jpg"
BREAKOUT = "\"'></script><script>alert(2)</script><!-- {{ 7 * 7 }} </template>"


def head(**changes: object) -> ReportHead:
    values: dict[str, object] = {
        "run_id": "0123456789abcdef",
        "model_id": "fedcba9876543210",
        "backbone": "resnet18",
        "archive": "/data/photos",
        "images": 120,
        "shards": 4,
        "shards_done": 4,
        "started_at": "2026-11-26T02:00:00+00:00",
        "finished_at": "2026-11-26T02:04:00+00:00",
        "statuses": {"scored": 115, "unreadable": 3, "too_large": 2},
    }
    return ReportHead(**{**values, **changes})  # type: ignore[arg-type]


def picture(seed: int, width: int = 96, height: int = 64) -> bytes:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 120 + 70 * np.sin(x / (6 + seed % 5)) * np.cos(y / 9)
    pixels = np.clip(base[..., None] + rng.normal(0, 5, (height, width, 3)), 0, 255)
    return encode(Image.fromarray(pixels.astype(np.uint8)), PICTURE_BYTES)


def heat() -> bytes:
    y, x = np.mgrid[:56, :56] / 56
    return encode(heat_layer(np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.01)), HEAT_BYTES)


def anomaly(place: int, **changes: object) -> GalleryImage:
    """The place-th most anomalous image; the first three are flagged."""
    score = 40.0 - place
    flagged = place < 3
    region = RegionBox(1, 30, 20, 50, 44, 320, score, 1e-4)
    values: dict[str, object] = {
        "uri": f"/data/photos/cam-{place % 2}/img{place}.jpg",
        "member": None,
        "group": f"cam-{place % 2}",
        "label": None,
        "score": score,
        # Not in the order of the scores: groups differ.
        "p_value": 1e-4 * (1 + (place * 7) % 12) if flagged else 0.01 * (1 + (place * 7) % 12),
        "extrapolated": flagged,
        "flagged": flagged,
        "width": 96,
        "height": 64,
        "peak": (40, 30),
        "map_box": (4, 6, 60, 90),
        "regions": [region] if flagged else [],
        "picture": picture(place),
        "heat": heat(),
    }
    return GalleryImage(**{**values, **changes})  # type: ignore[arg-type]


def sample(images: int = 12, **changes: object) -> ReportData:
    """A whole report of two groups, calibrated, with labels, drift and failures."""
    rng = np.random.default_rng(0)
    counts, edges = np.histogram(rng.exponential(0.43, 115), np.linspace(0, 5, 61))
    roc = [(x, x**0.1) for x in np.linspace(0, 1, 50).tolist()]
    line = Threshold(25.0, 24.0, 27.0)
    data = ReportData(
        head=head(),
        alarms=FlagSummary(Alarms("alpha", 0.001, 0.001), 0.001, 3, 115),
        histogram=Histogram(
            edges, counts, np.where(edges[:-1] > 3, counts, 0), True, Threshold(3.0, 3.0, 3.0)
        ),
        groups=[
            GroupRow("cam-0", 60, 58, 2, 11.0, 30.0, 40.0, line, 0.4),
            GroupRow("cam-1", 60, 57, 1, 10.0, 28.0, 39.0, None, 7.5),
        ],
        anomalies=[anomaly(place) for place in range(images)],
        failures=[Failure("/data/photos/cut.jpg", None, "unreadable", "damaged file: cut short")],
        drift=[DriftMap("cam-1", rng.exponential(2.0, (14, 14)).astype(np.float32), 7.5, 3.4)],
        drift_groups=2,
        trend=[
            DriftPoint(f"2026-11-{day:02d}T02:00:00+00:00", group, day * step)
            for group, step in (("cam-0", 0.02), ("cam-1", 0.3))
            for day in range(1, 27)
        ],
        quality=[GroupFit("cam-0", 300, 100, (0.02, 0.3), (800.0, 9e7))],
        labels=Labels(
            [LabelledGroup("cam-0", 40, 12, 0.98, 0.97, 0.91, 0.95, 22.0, roc, roc, roc[:15])],
            [LabelRow("good", 28, 1, 2), LabelRow("scratch", 12, 9, 11)],
            True,
        ),
        settings={"archive": {"url": "s3://key:secret@host/photos"}, "score": {"alpha": 0.001}},
        warnings=["group cam-1: fitted on fewer normal images than the Gaussian has dimensions"],
    )
    return replace(data, **changes)  # type: ignore[arg-type]


def hostile() -> ReportData:
    """A report whose names and reasons contain markup."""
    first = anomaly(
        0, uri=f"/data/{HOSTILE}", member=BREAKOUT, group=BREAKOUT, label=HOSTILE, gone=BREAKOUT
    )
    return sample(
        head=head(archive=BREAKOUT),
        anomalies=[replace(first, picture=None), anomaly(1, uri=f"/data/{HOSTILE}")],
        groups=[GroupRow(HOSTILE, 1, 1), GroupRow(BREAKOUT, 1, 1)],
        failures=[Failure(HOSTILE, BREAKOUT, "unreadable", HOSTILE)],
        drift=[DriftMap(HOSTILE, np.ones((2, 2), np.float32), 1.0, 3.4)],
        quality=[GroupFit(BREAKOUT, 1, 2, (0.5, 0.5), (1.0, 1.0))],
        settings={HOSTILE: BREAKOUT},
        warnings=[HOSTILE],
    )


def many_groups(groups: int = 3000) -> ReportData:
    """A report of thousands of groups, with the worst 200."""
    rows = [
        GroupRow(f"camera-{i:05d}", 100, 100, 1, 10.0, 20.0, 30.0 - i / 100, None, 3.0)
        for i in range(200)
    ]
    return sample(groups=rows, groups_left=groups - len(rows), drift_groups=groups)
