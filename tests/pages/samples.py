"""Sample reports."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from PIL import Image

from padim_dist.core.alarms import Alarms
from padim_dist.core.evaluation.flags import FlagCounts, FlagFigures
from padim_dist.pages.cards import GalleryImage, Suspect
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
    SplitCounts,
    Threshold,
    Week,
)
from padim_dist.pages.encode import HEAT_BYTES, MASK_BYTES, PICTURE_BYTES, encode
from padim_dist.pages.heat import HeatScale, heat_layer, mask_layer
from padim_dist.store.reviews import Verdict, VerdictName
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import RegionRow, ScoreRow

FLAGS = FlagFigures.of(FlagCounts(9, 1, 0, 3, 24, 0), 0.001)
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
BREAKOUT = "\"'></script><script>alert(2)</script><!-- {{ 7 * 7 }} </template>"


def head(**changes: Any) -> RunHead:
    values: dict[str, Any] = {
        "run_id": "0123456789abcdef",
        "model_id": "fedcba9876543210",
        "snapshot": "0" * 16,
        "settings": [],
        "asked": {"archive": {"url": "s3://key:secret@host/photos"}, "score": {"alpha": 0.001}},
        "alarms": None,
        "images": 120,
        "shards": range(4),
        "started_at": "2026-11-26T02:00:00+00:00",
        "asked_at": "2026-11-26T02:00:00+00:00",
        "finished_at": "2026-11-26T02:04:00+00:00",
    }
    return RunHead(**{**values, **changes})


def score_row(uri: str, member: str | None = None, **changes: Any) -> ScoreRow:
    """Return a row, without a score unless `changes` has one."""
    values: dict[str, Any] = {
        "image_id": uri,
        "uri": uri,
        "member": member,
        "etag": None,
        "group": None,
        "split": "test",
        "label": None,
        "status": "unreadable",
        "error": None,
        "width": None,
        "height": None,
        "shard": 0,
        "run_id": "0123456789abcdef",
        "model_id": "fedcba9876543210",
        "scored_at": datetime(2026, 11, 26, 2, tzinfo=UTC),
    }
    return ScoreRow(**{**values, **changes})


def picture(seed: int, width: int = 96, height: int = 64) -> bytes:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 120 + 70 * np.sin(x / (6 + seed % 5)) * np.cos(y / 9)
    pixels = np.clip(base[..., None] + rng.normal(0, 5, (height, width, 3)), 0, 255)
    return encode(Image.fromarray(pixels.astype(np.uint8)), PICTURE_BYTES)


def heat() -> bytes:
    y, x = np.mgrid[:56, :56] / 56
    return encode(heat_layer(np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.01)), HEAT_BYTES)


def mask() -> bytes:
    y, x = np.mgrid[:56, :84]
    return encode(mask_layer((y > 26) & (y < 46) & (x > 14) & (x < 38)), MASK_BYTES)


def review(
    verdict: VerdictName, kind: str | None = None, note: str = "", who: str = "ann"
) -> Verdict:
    at = "2026-11-26T08:00:00+00:00"
    return Verdict(image_id="3f", verdict=verdict, kind=kind, note=note, number=1, who=who, at=at)


def anomaly(place: int, **changes: Any) -> GalleryImage:
    """Return the image at a place in the ranking; the first three are flagged."""
    score = 40.0 - place
    flagged = place < 3
    own = {
        name: changes.pop(name)
        for name in [f.name for f in fields(GalleryImage)]
        if name in changes
    }
    values: dict[str, Any] = {
        "image_id": f"{place:016x}",
        "uri": f"/data/photos/cam-{place % 2}/img{place}.jpg",
        "group": f"cam-{place % 2}",
        "status": "scored",
        "score": score,
        # Not in the order of the scores: groups differ.
        "p_value": 1e-4 * (1 + (place * 7) % 12) if flagged else 0.01 * (1 + (place * 7) % 12),
        "p_extrapolated": flagged,
        "flagged": flagged,
        "width": 96,
        "height": 64,
        "peak_y": 40,
        "peak_x": 30,
    }
    row = score_row(**{**values, **changes})
    kept = (row.image_id, row.uri, row.member, row.group, row.label)
    at = (30, 20, 50, 44)
    region = RegionRow(*kept, 1, 320, *at, score, 40, 30, 1e-4, 0, row.run_id, row.model_id)
    path = row.uri.removeprefix("/data/photos/") + (f" {row.member}" if row.member else "")
    image = GalleryImage(
        row=row,
        map_box=(4, 6, 60, 90),
        path=path,
        regions=[region] if flagged else [],
        picture=picture(place),
        heat=heat(),
        mask=mask() if place == 0 else None,
        review=review("ok", note="wiped") if place == 1 else None,
        levels={"fine": 0.2, "middle": 0.3, "coarse": 0.5} if place == 0 else None,
    )
    return replace(image, **own)


def sample(images: int = 12, **changes: Any) -> ReportData:
    """Return a report of two groups with calibration, labels, drift and failures."""
    rng = np.random.default_rng(0)
    counts, edges = np.histogram(rng.exponential(0.43, 115), np.linspace(0, 5, 61))
    roc = [(x, x**0.1) for x in np.linspace(0, 1, 50).tolist()]
    line = Threshold(25.0, 24.0, 27.0)
    data = ReportData(
        head=head(),
        backbone="resnet18",
        shards_done=4,
        statuses={"scored": 115, "unreadable": 3, "too_large": 2},
        alarms=FlagSummary(Alarms("alpha", 0.001, 0.001), 3, 115, 0.115),
        histogram=Histogram(
            edges,
            [
                SplitCounts("test", counts, np.where(edges[:-1] > 3, counts, 0)),
                SplitCounts("train", counts // 2, np.zeros_like(counts)),
            ],
            True,
            Threshold(3.0, 3.0, 3.0),
        ),
        groups=[
            GroupRow("cam-0", 60, 58, 2, 11.0, 30.0, 40.0, line, 0.4),
            GroupRow("cam-1", 60, 57, 1, 10.0, 28.0, 39.0, None, 7.5),
        ],
        anomalies=[anomaly(place) for place in range(images)],
        scales={"cam-0": HeatScale(5.0, 25.0, 50.0), "cam-1": HeatScale(4.0, 28.0, 56.0, False)},
        failures=[score_row("/data/photos/cut.jpg", error="damaged file: cut short")],
        drift=[
            DriftMap(
                "cam-1", rng.exponential(2.0, (14, 14)).astype(np.float32), 7.5, 3.4, picture(3)
            )
        ],
        drift_groups=2,
        trend=[
            DriftPoint(f"2026-11-{day:02d}T02:00:00+00:00", group, day * step)
            for group, step in (("cam-0", 0.02), ("cam-1", 0.3))
            for day in range(1, 27)
        ],
        quality=[GroupFit("cam-0", 300, 100, (0.02, 0.3), (800.0, 9e7))],
        labels=Labels(
            [
                LabelledGroup(
                    "cam-0", 40, 12, 0.98, 0.97, 0.91, 0.95, 22.0, roc, roc, roc[:15], FLAGS
                )
            ],
            [LabelRow("good", 28, 1, 2), LabelRow("scratch", 12, 9, 11)],
            True,
        ),
        weeks=[
            Week("2026-W46", 500, 0.01),
            Week("2026-W47", 480, None),
            Week("2026-W48", 520, 0.04),
        ],
        suspects=[
            Suspect("a" * 16, "cam-0", "cam-0/train/img77.jpg", 49.8, 0.0005, False, picture(5)),
            Suspect("b" * 16, "cam-1", "cam-1/train/img78.jpg", 45.0, None, True),
        ],
        suspects_left=3,
        warnings=["group cam-1: fitted on fewer normal images than the Gaussian has dimensions"],
    )
    return replace(data, **changes)


def hostile() -> ReportData:
    """Return a report whose names and reasons contain markup."""
    first = anomaly(
        0,
        uri=f"/data/{HOSTILE}",
        member=BREAKOUT,
        group=BREAKOUT,
        label=HOSTILE,
        gone=BREAKOUT,
        review=review("defect", HOSTILE, BREAKOUT, HOSTILE),
        levels={HOSTILE: 1.0},
    )
    return sample(
        head=head(asked={"archive": {"url": BREAKOUT}, HOSTILE: BREAKOUT}),
        anomalies=[replace(first, picture=None), anomaly(1, uri=f"/data/{HOSTILE}")],
        groups=[GroupRow(HOSTILE, 1, 1), GroupRow(BREAKOUT, 1, 1)],
        failures=[score_row(HOSTILE, BREAKOUT, error=HOSTILE)],
        suspects=[Suspect("a" * 16, BREAKOUT, HOSTILE, 9.0, None, False)],
        title=BREAKOUT,
        drift=[DriftMap(HOSTILE, np.ones((2, 2), np.float32), 1.0, 3.4)],
        quality=[GroupFit(BREAKOUT, 1, 2, (0.5, 0.5), (1.0, 1.0))],
        warnings=[HOSTILE],
    )


def many_groups(groups: int = 3000) -> ReportData:
    """Return a report of thousands of groups that lists the worst 200."""
    rows = [
        GroupRow(f"camera-{i:05d}", 100, 100, 1, 10.0, 20.0, 30.0 - i / 100, None, 3.0)
        for i in range(200)
    ]
    return sample(groups=rows, groups_left=groups - len(rows), drift_groups=groups)
