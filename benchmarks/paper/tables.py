"""Tables I to VI: which experiments make which rows, beside the published figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import sqrt
from statistics import mean, stdev

from benchmarks.paper import pipeline, published
from benchmarks.paper.experiments import B4, R18, WR50, Experiments
from benchmarks.paper.films import Films
from benchmarks.paper.page import Table, percent, printed
from benchmarks.paper.protocol import Figures, mean_figures
from benchmarks.paper.published import ALL, OBJECTS, TEXTURES
from benchmarks.paper.sets import OBJECTS as OBJECT_NAMES
from benchmarks.paper.sets import TEXTURES as TEXTURE_NAMES
from benchmarks.paper.sets import ImageSet
from benchmarks.paper.turned import SEEDS

DRAWS = tuple(range(10))
HEADER = (
    *("sets", "system", "image AUROC", "pixel AUROC", "PRO"),
    *("published for", "pixel AUROC", "PRO", "note"),
)
TURNED = (pipeline.R18, pipeline.R18_ALIGNED, pipeline.WR50)
Experiment = Callable[[ImageSet], Figures]
SPADES = (
    ("SPADE-R18", R18, "the pooled feature is that of layer 3 where the weights end there"),
    ("SPADE-WR50", WR50, ""),
)


def table_1(run: Experiments, sets: Sequence[ImageSet]) -> Table:
    """Layers alone, the sum of their maps, and PaDiM with their correlations."""
    rows: list[list[str]] = []
    systems: dict[str, Experiment] = {
        "layer 1": partial(run.layer, layer=0),
        "layer 2": partial(run.layer, layer=1),
        "layer 3": partial(run.layer, layer=2),
        "layers 1 + 2 + 3": run.layer_sum,
        "PaDiM-R18": run.everything,
    }
    for name, experiment in systems.items():
        rows += _rows(name, sets, experiment, published.LAYERS, run.lacks(R18))
    return Table("I", HEADER, rows)


def table_2(run: Experiments, sets: Sequence[ImageSet]) -> Table:
    """PCA, random draws and projections, and all channels."""
    rows: list[list[str]] = []
    errors: dict[str, list[float]] = {}

    def seeded(one: ImageSet, name: str, each: Callable[..., Figures], channels: int) -> Figures:
        several = [each(one, channels, seed) for seed in DRAWS]
        values = [f.pixel_auroc for f in several if f.pixel_auroc is not None]
        if len(values) > 1:
            errors.setdefault(name, []).append(stdev(values) / sqrt(len(values)))
        return mean_figures(several)

    systems: dict[str, Experiment] = {
        "PCA 100": partial(run.pca, components=100),
        "PCA 200": partial(run.pca, components=200),
        "Rd 100": partial(seeded, name="Rd 100", each=run.draw, channels=100),
        "Rd 200": partial(seeded, name="Rd 200", each=run.draw, channels=200),
        "projected 50": partial(seeded, name="projected 50", each=run.projection, channels=50),
        "projected 100": partial(seeded, name="projected 100", each=run.projection, channels=100),
        "all 448": run.everything,
    }
    for name, experiment in systems.items():
        rows += _rows(name, sets, experiment, published.DIMENSIONS, run.lacks(R18))
    told = [
        f"{name}: {len(DRAWS)} seeds, standard error of the pixel AUROC {100 * mean(e):.2f}."
        for name, e in errors.items()
    ]
    return Table("II", HEADER, rows, " ".join(told))


def table_3(run: Experiments, sets: Sequence[ImageSet]) -> Table:
    """All systems, set by set and in the mean: localisation, with the image AUROC beside it."""
    rows: list[list[str]] = []
    for system in (pipeline.R18, pipeline.WR50, pipeline.B5):
        rows += _rows(
            system.name,
            sets,
            partial(run.padim, system=system),
            published.LOCALISATION,
            run.lacks(system.backbone),
            each=True,
        )
    for name, backbone, note in SPADES:
        rows += _rows(
            name,
            sets,
            partial(run.spade, backbone=backbone),
            published.LOCALISATION,
            run.lacks(backbone),
            note,
            each=True,
        )
    rows += _rows("VAE", sets, run.vae, published.LOCALISATION, None, _training(run), True)
    for cited in ("AE-SSIM", "Patch-SVDD"):
        rows += _rows(cited, sets, None, published.LOCALISATION, "cited by the paper, not run")
    return Table("III", HEADER, sorted(rows, key=lambda row: _order(row[0], sets)))


def table_4(run: Experiments, films: Sequence[Films]) -> Table:
    """Fixed cameras, scene by scene."""
    rows = []
    for one in films:
        found, reason = None, run.lacks(R18)
        if reason is None:
            found = run.films(one)
        measured = [percent(found.image_auroc), percent(found.pixel_auroc)] if found else ["–", "–"]
        rows.append([one.name, pipeline.R18.name, *measured, "–", reason or "mean of the scenes"])
    for name, value in published.CAMERAS.items():
        rows.append(["ShanghaiTech Campus", name, "–", "–", printed(value), "published"])
    header = ("frames", "system", "frame AUROC", "pixel AUROC", "published pixel AUROC", "note")
    return Table("IV", header, rows)


def table_5(run: Experiments, sets: Sequence[ImageSet]) -> Table:
    """Detection: the image AUROC of all systems."""
    systems: dict[str, tuple[Experiment | None, str | None, str]] = {
        system.name: (
            partial(run.padim, system=system),
            run.lacks(system.backbone),
            "",
        )
        for system in (pipeline.R18, pipeline.WR50, pipeline.B5)
    }
    for name, backbone, note in SPADES:
        systems[name] = (
            partial(run.spade, backbone=backbone),
            run.lacks(backbone),
            note,
        )
    for short, backbone, note in (
        ("R18", R18, "levels: layers 1 to 3"),
        ("EfficientNet-B4", B4, "levels: stages 1 to 8"),
    ):
        systems[f"MahalanobisAD-{short}"] = (
            partial(run.mahalanobis, backbone=backbone),
            run.lacks(backbone),
            note,
        )
    systems["VAE"] = (run.vae, None, _training(run))
    systems["Patch-SVDD"] = (None, "cited by the paper, not run", "")
    rows = []
    for name, (experiment, reason, note) in systems.items():
        wanted = printed(published.DETECTION.get(name))
        for group, figures in _groups(sets, None if reason else experiment):
            measured = percent(figures.image_auroc) if figures else "–"
            rows.append([group, name, measured, wanted, reason or note])
    header = ("sets", "system", "image AUROC", "published (all classes)", "note")
    return Table("V", header, rows)


def table_6(run: Experiments, sets: Sequence[ImageSet]) -> Table:
    """Rd-MVTec: rotated and cropped sets, the mean of five seeds."""

    def turned(experiment: Callable[..., Figures]) -> Experiment:
        return lambda one: mean_figures([experiment(one, turn=seed) for seed in SEEDS])

    rows: list[list[str]] = []
    for seed in SEEDS:  # all systems of a seed, so that its files can go
        for one in sets:
            for system in TURNED:
                if not run.lacks(system.backbone):
                    run.padim(one, system, seed)
                    run.spade(one, system.backbone, seed)
            run.vae(one, seed)
        run.forget(seed)
    for system in TURNED:
        rows += _rows(
            system.name,
            sets,
            turned(partial(run.padim, system=system)),
            published.TURNED,
            run.lacks(system.backbone),
        )
    for name, backbone, note in SPADES:
        experiment = turned(partial(run.spade, backbone=backbone))
        rows += _rows(name, sets, experiment, published.TURNED, run.lacks(backbone), note)
    rows += _rows("VAE", sets, turned(run.vae), published.TURNED, None, _training(run))
    return Table("VI", HEADER, rows)


def _training(run: Experiments) -> str:
    if not run.quick:
        return ""
    full = f"{run.training.images * run.training.epochs:,} augmented images"
    return f"**quick**: trained on {full}, not on 1,000,000"


def _rows(
    name: str,
    sets: Sequence[ImageSet],
    experiment: Experiment | None,
    wanted: Mapping[str, published.Row],
    reason: str | None,
    note: str = "",
    each: bool = False,
) -> list[list[str]]:
    """Return the rows of a system: a row for each group of sets, with what was published."""
    rows = []
    for group, figures in _groups(sets, None if reason else experiment, each):
        known = wanted.get(name, {})
        kind = _kind(group)
        of = next((key for key in (group, kind, ALL) if key in known), "")
        auroc, pro = known.get(of, (None, None))
        measured = figures or Figures()
        rows.append(
            [
                *(group, name, percent(measured.image_auroc)),
                *(percent(measured.pixel_auroc), percent(measured.pro)),
                *(of, printed(auroc), printed(pro), reason or note),
            ]
        )
    return rows


def _groups(
    sets: Sequence[ImageSet], experiment: Experiment | None, each: bool = False
) -> Iterator[tuple[str, Figures | None]]:
    """Yield groups of sets with their mean figures, None without an experiment.

    A single set is its own group. Several ones have means over textures, over objects and over all,
    and each one has its figures too if `each`.
    """
    found = {one.name: experiment(one) for one in sets} if experiment else {}
    groups = {one.name: [one.name] for one in sets if each or len(sets) == 1}
    if len(sets) > 1:
        names = [one.name for one in sets]
        groups[TEXTURES] = [name for name in names if name in TEXTURE_NAMES]
        groups[OBJECTS] = [name for name in names if name in OBJECT_NAMES]
        groups[ALL] = names
    for group, members in groups.items():
        if members:
            some = [found[name] for name in members] if found else []
            yield group, mean_figures(some) if some else None


def _kind(group: str) -> str:
    if group in TEXTURE_NAMES:
        return TEXTURES
    return OBJECTS if group in OBJECT_NAMES else group


def _order(group: str, sets: Sequence[ImageSet]) -> int:
    names = [*(one.name for one in sets), TEXTURES, OBJECTS, ALL]
    return names.index(group)
