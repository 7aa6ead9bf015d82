"""Measure the storage of a run, and the time to read a heatmap."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import padim_dist as padim
from benchmarks.measure import Row, figure, seconds
from benchmarks.pictures import Pictures


def measure(pictures: Pictures, place: Path) -> list[Row]:
    """Return the rows of the section."""
    many = pictures.times(place / "x5", 5)
    config = many.config(place / "storage-audit")
    padim.fit(config)
    done = padim.score(config)
    run = Path(config.workspace) / "runs" / str(done.run_id)
    sizes: dict[str, int] = {}
    for path in run.rglob("*"):
        if path.is_file():
            kind = path.relative_to(run).parts[0]
            sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
    rows = [
        figure("storage", f"{kind}, bytes an image", [size / done.images], "B")
        for kind, size in sorted(sizes.items())
    ]
    rows.append(figure("storage", "all, bytes an image", [sum(sizes.values()) / done.images], "B"))
    heatmaps = padim.open_heatmaps(str(run))
    random = np.random.default_rng(0)
    places = random.choice(done.images // 2, 50, replace=False).tolist()
    grids = [1e3 * seconds(lambda at=at: heatmaps.distance[at].load()) for at in places]
    rows.append(figure("storage", "one patch grid, read", grids, "ms", "local disk"))
    model = sum(
        p.stat().st_size for p in (Path(config.workspace) / "models").rglob("*") if p.is_file()
    )
    rows.append(figure("storage", "model on disk", [model / 1e6], "MB"))
    return rows
