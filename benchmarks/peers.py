"""Compare with other projects on the same images, weights, sizes, batches and cores.

Anomalib and Ray run in a separate environment (`make bench` makes it), with the scripts in
``benchmarks/foreign``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

import padim_dist as padim
from benchmarks.limit import rates
from benchmarks.measure import ROOT, Row, Runs, figure, interleave, ratio, run, script
from benchmarks.pictures import Pictures

PYTHON = ROOT / ".venv-bench" / "bin" / "python"
_COPIES = 5
_ENGINES: dict[str, str] = {"float32": "torch", "bfloat16": "torch", "int8": "openvino"}
"""What runs our trunk, by precision."""
_SAID = {"openvino": "exported to OpenVINO"}


def measure(pictures: Pictures, place: Path, rounds: int) -> list[Row]:
    """Return the rows of the section."""
    many = pictures.times(place / f"x{_COPIES}", _COPIES)
    normal = len(list((many.root / "train").rglob("*.jpg")))
    return [
        *_engines(pictures, many, place, rounds, f"{normal:,} normal images"),
        *_models(pictures, rounds),
        *_ray(pictures, place, rounds, _COPIES),
        *_ray(pictures, place, 1, 20),
        *_verdicts(pictures, place),
    ]


def _engines(few: Pictures, many: Pictures, place: Path, rounds: int, what: str) -> list[Row]:
    """Measure anomalib's engine and a plain dense PaDiM, in turns."""
    rows = []
    for crop, turns in ((224, rounds), (256, 1)):
        mine: dict[str, Runs] = {precision: {} for precision in _ENGINES}
        theirs, plain = [], []
        arguments = (str(many.root), str(many.weights), str(crop))
        for turn in range(turns):
            for precision, found in mine.items():
                folder = place / f"peers-{crop}-{precision}-{turn}"
                model = {"engine": _ENGINES[precision], "precision": precision, "crop": crop}
                once = rates(many, folder, 1, few=few, **model)
                for work, values in once.items():
                    found.setdefault(work, []).extend(values)
            theirs.append(_anomalib(*arguments))
            if crop == 224:
                plain.append(script("plain", *arguments[:2], as_installed=True))
        for work, other in (("fit", "fit"), ("score", "predict"), ("score", "openvino")):
            said = f"anomalib {_SAID.get(other, other)}, {crop} px, {what}"
            slow = [found[other] for found in theirs]
            rows.append(figure("peers", said, slow, "images/s"))
            for precision, found in mine.items():
                name = f"{work} / {said}, {precision}"
                rows.append(ratio("peers", name, found[work], slow))
        if plain:
            for work in ("fit", "score"):
                slow = [found[work] for found in plain]
                rows.append(figure("peers", f"plain dense {work}, {what}", slow, "images/s"))
                name = f"{work} / plain dense {work}, {what}"
                rows.append(ratio("peers", name, mine["float32"][work], slow))
    return rows


def _anomalib(*arguments: str) -> dict[str, Any]:
    return script("foreign.anomalib_engine", *arguments, python=str(PYTHON), as_installed=True)


def _models(pictures: Pictures, rounds: int) -> list[Row]:
    """Measure the models without engines, on tensors."""
    arguments = (str(pictures.weights), str(rounds))
    found = script("foreign.anomalib_model", *arguments, python=str(PYTHON))
    rows = []
    for work in ("fit", "score"):
        mine, theirs = found[work], found[f"{work}, anomalib"]
        rows.append(
            figure("peers", f"anomalib's model, {work}", [1e3 * s for s in theirs], "ms/image")
        )
        rows.append(ratio("peers", f"anomalib's model / the core, {work}", theirs, mine))
    apart = "anomalib's distances: greatest relative difference"
    return [*rows, figure("peers", apart, [found["apart"]], "")]


def _ray(pictures: Pictures, place: Path, rounds: int, copies: int) -> list[Row]:
    """Measure cold processes: a score with all it writes, and Ray with only the trunk."""
    many = pictures.times(place / f"x{copies}", copies)
    config = many.config(place / f"ray-{copies}", score={"splits": ["train"]})
    padim.fit(config)
    file = place / f"ray-{copies}.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    images = len(list((many.root / "train").rglob("*.jpg")))

    def mine() -> float:
        shutil.rmtree(Path(config.workspace) / "runs", ignore_errors=True)
        began = time.perf_counter()
        run([sys.executable, "-m", "padim_dist", "score", "-c", str(file), "--json"])
        return images / (time.perf_counter() - began)

    def theirs() -> float:
        with tempfile.TemporaryDirectory() as out:
            arguments = (str(many.root / "train"), str(many.weights), out)
            began = time.perf_counter()
            script("foreign.ray_pipeline", *arguments, python=str(PYTHON), as_installed=True)
            return images / (time.perf_counter() - began)

    found = interleave(rounds, {"score": mine, "ray": theirs})
    said = f"{images:,} images, start-up included"
    return [
        figure("peers", f"Ray Data, only the trunk, {said}", found["ray"], "images/s"),
        figure("peers", f"score, {said}", found["score"], "images/s"),
        ratio("peers", f"score / Ray Data, {said}", found["score"], found["ray"]),
    ]


def _verdicts(pictures: Pictures, place: Path) -> list[Row]:
    """Measure image AUROC of each precision, and of anomalib."""
    rows = []
    for precision, engine in _ENGINES.items():
        config = pictures.config(
            place / f"verdicts-{precision}",
            model={"engine": engine, "precision": precision},
            score={"splits": ["test"]},
        )
        padim.fit(config)
        padim.score(config)
        auroc = padim.evaluate(config).mean["image_auroc"]
        rows.append(figure("peers", f"image AUROC, {precision}", [auroc], ""))
    arguments = (str(pictures.root), str(pictures.weights), "224")
    theirs = _anomalib(*arguments)
    for what, name in (("anomalib", "auroc"), ("anomalib exported to OpenVINO", "openvino_auroc")):
        rows.append(figure("peers", f"image AUROC, {what}", [theirs[name]], ""))
    return rows
