"""Suspects on the bottle set: what is dropped of defects among the normal images, and p-values.

``python -m benchmarks.suspects [--draws N]``. Each draw mixes 23 of 63 defective images into the
209 normal ones, fits with ``fit.suspects: drop``, and compares the image AUROC on the rest of
the test images with that of a fit on the normal images alone, and of one that keeps the defects.
Then all normal images are scored with the model that was fitted on them: the share with p <= alpha.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

import padim_dist as padim
from benchmarks.pictures import BOTTLES, WEIGHTS
from padim_dist.config import Config, load_config

_MIXED = 23
_ALPHAS = (0.1, 0.05, 0.01)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=3)
    draws = parser.parse_args().draws
    with tempfile.TemporaryDirectory(prefix="suspects-") as folder:
        for draw in range(draws):
            print(_measure_draw(Path(folder) / str(draw), draw), flush=True)
        print(_measure_p_values(Path(folder) / "p-values"))


def _measure_draw(folder: Path, draw: int) -> str:
    defects = sorted(p for p in (BOTTLES / "test").glob("*/*") if p.parent.name != "good")
    mixed = np.random.default_rng(draw).choice(len(defects), _MIXED, replace=False)
    clean = folder / "clean"
    shutil.copytree(BOTTLES, clean)
    for number in mixed:
        (clean / defects[number].relative_to(BOTTLES)).unlink()
    dirty = folder / "dirty"
    shutil.copytree(clean, dirty)
    for number in mixed:
        path = defects[number]
        shutil.copy(path, dirty / "train/good" / f"{path.parent.name}-{path.name}")
    configs = {
        "clean": _config(folder, "clean", clean),
        "kept": _config(folder, "kept", dirty),
        "dropped": _config(folder, "dropped", dirty, "fit.suspects=drop"),
    }
    aurocs = {}
    for name, config in configs.items():
        padim.fit(config)
        padim.score(config)
        aurocs[name] = padim.evaluate(config).groups["all"].image_auroc
    sql = "SELECT uri FROM normals WHERE dropped"
    names = [Path(uri).name for (uri,) in padim.query(configs["dropped"], sql=sql).rows]
    found = sum("-" in name for name in names)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in aurocs.items())
    return (
        f"draw {draw}: dropped {found} of {_MIXED} defects, {len(names) - found} of 209 normal "
        f"images; image AUROC {shown}"
    )


def _measure_p_values(folder: Path) -> str:
    config = _config(folder, "all", BOTTLES, "score.splits=[train]")
    padim.fit(config)
    padim.score(config)
    rows: Any = padim.open_scores(config.workspace).project("p_value, left_out").fetchall()
    assert all(left_out for _, left_out in rows)
    p = np.array([value for value, _ in rows])
    lines = []
    for alpha in _ALPHAS:
        low, high = binom.ppf([0.005, 0.995], len(p), alpha)
        lines.append(
            f"p <= {alpha}: {(p <= alpha).sum()} of {len(p)} normal images in the model "
            f"(99 % band {low:.0f} to {high:.0f})"
        )
    return "\n".join(lines)


def _config(folder: Path, name: str, archive: Path, *settings: str) -> Config:
    return load_config(
        "configs/mvtec_bottle.yaml",
        [
            f"workspace={folder / f'workspace-{name}'}",
            f"archive.url={archive}",
            f"model.weights={WEIGHTS}",
            *settings,
        ],
    )


if __name__ == "__main__":
    main()
