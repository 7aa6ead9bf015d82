"""Measure a report of a large run: its time, its size, and how fast a browser opens it.

    python benchmarks/report.py --images 10000 --groups 1

makes a run whose score tables, regions and heatmaps have the format of a real score (the model is
fitted on a few drawn images, the numbers are random) and whose most anomalous images are JPEGs of
camera size. Writes its report in a fresh process, opens it in Chromium three times, and prints
the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from playwright.sync_api import ConsoleMessage, sync_playwright

import padim_dist as padim
from padim_dist.api.pipeline.index import current_manifest
from padim_dist.api.pipeline.judge import Judged
from padim_dist.api.pipeline.score_plan import plan_score
from padim_dist.api.settings.lookup import choose_model
from padim_dist.config import Config, make_config
from padim_dist.store.runs.rows import RegionRow, ScoreRow

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
TOP = 200
FITTED = 24
SIZE = (1080, 1440)
_ALPHA = 0.001
_REPORT = """
import json, sys, time
from pathlib import Path
import padim_dist as padim
config = padim.load_config(sys.argv[1])
started = time.monotonic()
result = padim.report(config)
seconds = time.monotonic() - started
status = Path("/proc/self/status").read_text()
peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps({"path": result.report, "bytes": result.bytes, "seconds": seconds, "peak": peak,
                  "busy": time.process_time(),
                  "pictures": result.anomalies - result.without_picture}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = make_run(Path(folder), arguments.images, arguments.groups)
        done = subprocess.run(
            [sys.executable, "-c", _REPORT, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        made = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{arguments.images:,} images in {arguments.groups:,} groups, {made['pictures']} "
            f"pictures: {made['seconds']:.1f} s ({made['busy']:.1f} s of processor time, with "
            f"imports), peak {made['peak']:.0f} MiB, "
            f"{made['bytes'] / 1e6:.2f} MB"
        )
        for times in open_three_times(made["path"]):
            print("opened: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in times.items()))


def make_run(root: Path, images: int, groups: int) -> Path:
    """Make a workspace with a finished run; return the path of its configuration."""
    photo(root / "camera.jpg", 0)
    for g in range(groups):
        # Every group has images; drawing all of them would take longer than the report.
        for i in range(FITTED):
            link(root / "camera.jpg" if i else photo(root / f"c{g % 50}.jpg", g % 50),
                 root / f"archive/cam-{g:04d}/good/{i}.jpg")  # fmt: skip
        for i in range(images // groups):
            link(root / "camera.jpg", root / f"archive/cam-{g:04d}/new/{i:05d}.jpg")
    path = root / "config.yaml"
    tree = {
        "workspace": str(root / "audit"),
        "archive": {"url": str(root / "archive"), "group": "(?P<group>cam-[0-9]+)/"},
        "model": {"weights": "random", "channels": 10, "crop": 224},
        "score": {"splits": ["test"]},
        "cluster": {"workers": 2},
    }
    path.write_text(yaml.safe_dump(tree))
    config = make_config(tree)
    padim.fit(config)
    write_run(config)
    return path


def write_run(config: Config) -> None:
    """Write a finished run of the newest model: all its numbers are random."""
    random = np.random.default_rng(0)
    plan = plan_score(config, choose_model(config, None), current_manifest(config), partial=False)
    run, shape = plan.run, plan.model.embedding.shape
    run.start(plan.head, plan.shards, shape, heatmaps=True)
    for job in plan.jobs:
        (source,) = job.sources
        rows = source.read()
        p_values = random.random(len(rows))
        p_values[random.random(len(rows)) < TOP / plan.head.images] = 1e-5
        scores = 12 - 4 * np.log10(p_values) + random.random(len(rows))
        maps = random.gamma(8, 0.5, (len(rows), *shape.grids[0])).astype(np.float32)
        maps[:, 20:26, 30:36] += scores[:, None, None]
        first, _ = run.heatmaps.write(job.place, maps)
        table = [
            ScoreRow(
                image_id=row.image_id,
                uri=row.uri,
                member=row.member,
                etag=row.etag,
                group=row.group,
                split=row.split,
                label=None,
                status="scored",
                error=None,
                width=SIZE[1],
                height=SIZE[0],
                shard=job.place,
                run_id=run.run_id,
                model_id=job.model_id,
                scored_at=datetime.now(UTC),
                score=float(score),
                p_value=float(p),
                flagged=bool(p <= _ALPHA),
                p_extrapolated=bool(p <= _ALPHA),
                resolution=_ALPHA,
                peak_y=500,
                peak_x=800,
                heatmap_row=first + i,
            )
            for i, (row, score, p) in enumerate(zip(rows, scores, p_values, strict=True))
        ]
        regions = [region(row) for row in table if row.flagged]
        if regions:
            run.regions.replace(job.place, run.regions.make(regions))
        run.scores.create(job.place, run.scores.make(table))
    judgement = Judged(run, run.head()).judge(plan.alarms)
    run.conclude(run.scores.count(range(len(plan.shards))), judgement, {})


def region(row: ScoreRow) -> RegionRow:
    """Return the region of a flagged row: the same for all."""
    assert row.score is not None
    return RegionRow(
        image_id=row.image_id,
        uri=row.uri,
        member=row.member,
        group=row.group,
        label=row.label,
        region=1,
        area=9000,
        top=450,
        left=760,
        bottom=560,
        right=880,
        peak=row.score,
        peak_y=500,
        peak_x=800,
        p_value=row.p_value,
        shard=row.shard,
        run_id=row.run_id,
        model_id=row.model_id,
    )


def photo(path: Path, seed: int) -> Path:
    """Return a JPEG of camera size that compresses like a photo."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    base = 120 + 60 * np.sin(x / 37) * np.cos(y / 23) + 20 * np.sin((x + y) / 5)
    pixels = base[..., None] + random.normal(0, 12, (*SIZE, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def link(source: Path, target: Path) -> None:
    """Link an image under another name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def open_three_times(path: str) -> list[dict[str, float]]:
    """Return milliseconds to DOMContentLoaded, load, and the first image on the screen."""
    found = []
    with sync_playwright() as playwright:
        for _ in range(3):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            told: list[str] = []

            def note(message: ConsoleMessage, told: list[str] = told) -> None:
                told.append(message.text)

            page.on("console", note)
            page.goto(Path(path).as_uri())
            times = page.evaluate(
                "(() => { const t = performance.getEntriesByType('navigation')[0];"
                "const paint = performance.getEntriesByName('first-contentful-paint')[0];"
                "return {DOMContentLoaded: t.domContentLoadedEventEnd, load: t.loadEventEnd,"
                "'first paint': paint ? paint.startTime : 0}; })()"
            )
            assert not told, told
            found.append(times)
            browser.close()
    return found


if __name__ == "__main__":
    main()
