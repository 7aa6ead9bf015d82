"""The experiments behind the tables: each is a result of a system on a set, computed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paper import mahalanobis, padim, pipeline, spade, vae
from benchmarks.paper.cells import Cells, Settings
from benchmarks.paper.features import Features, features_of, weights_digest
from benchmarks.paper.films import Films
from benchmarks.paper.padim import Change
from benchmarks.paper.protocol import CROPPED, Figures, mean_figures
from benchmarks.paper.sets import ImageSet
from benchmarks.paper.turned import CUT, WHOLE, write_turned
from benchmarks.paper.vae_training import FULL, QUICK, Training, train
from padim_dist.core.geometry import InputGeometry

R18, WR50, B4 = "resnet18", "wide_resnet50_2", "efficientnet_b4"
LAYERS, CHANNELS = 3, (64, 128, 256)
VERSION = 1
"""Part of the settings of all results: a higher one makes all of them anew."""


@dataclass
class Experiments:
    """Runs experiments and keeps their results.

    Attributes
    ----------
    cells : Cells
        Results.
    build : Path
        Folder of features, turned sets, checkpoints and workspaces.
    weights : mapping of str to Path
        State dicts by backbone; systems without one are not run.
    quick : bool
        Whether the autoencoder is trained for minutes only.
    """

    cells: Cells
    build: Path
    weights: Mapping[str, Path]
    quick: bool = False

    @property
    def training(self) -> Training:
        """Training of the autoencoder."""
        return QUICK if self.quick else FULL

    def lacks(self, backbone: str) -> str | None:
        """Return why a backbone cannot be run; None if it can."""
        if backbone in self.weights:
            return None
        return f"not run: no weights (`--weights {backbone}=FILE`)"

    def layer(self, one: ImageSet, layer: int) -> Figures:
        """Return the figures of PaDiM on a single layer, 0 to 2."""
        return self._on_features(one, f"layer {layer + 1}", padim.single_layer(layer))

    def everything(self, one: ImageSet) -> Figures:
        """Return the figures of PaDiM with all channels."""
        return self._on_features(one, "all channels", padim.all_channels)

    def draw(self, one: ImageSet, channels: int, seed: int) -> Figures:
        """Return the figures of PaDiM with drawn channels."""
        change = padim.drawn_channels(CHANNELS, channels, seed)
        return self._on_features(one, f"Rd {channels}", change, seed)

    def projection(self, one: ImageSet, channels: int, seed: int) -> Figures:
        """Return the figures of PaDiM with layers that are projected at random."""
        change = padim.projected_channels(CHANNELS, channels, seed)
        return self._on_features(one, f"projected {channels}", change, seed)

    def layer_sum(self, one: ImageSet) -> Figures:
        """Return the figures of the sum of the single layers' maps."""
        return self._cell(
            one,
            "layer sum",
            lambda: padim.judge_sum(self._three(one), one.test, CROPPED),
        )

    def pca(self, one: ImageSet, components: int) -> Figures:
        """Return the figures of PaDiM on principal components."""
        return self._cell(
            one,
            f"PCA {components}",
            lambda: padim.judge_pca(self._three(one), one.test, CROPPED, components),
        )

    def mahalanobis(self, one: ImageSet, backbone: str) -> Figures:
        """Return the image AUROC of MahalanobisAD."""

        def compute() -> Figures:
            return mahalanobis.judge(self.features(one, backbone), one.test)

        return self._cell(one, f"MahalanobisAD {backbone}", compute, backbone=backbone)

    def spade(self, one: ImageSet, backbone: str, turn: int | None = None) -> Figures:
        """Return the figures of SPADE."""
        geometry = CUT if turn is not None else CROPPED

        def compute() -> Figures:
            there = self._turned(one, turn)
            features = self.features(there, backbone, geometry, self._place(turn))
            return spade.judge(features, there.test, geometry)

        return self._cell(one, f"SPADE {backbone}", compute, turn, backbone)

    def vae(self, one: ImageSet, turn: int | None = None) -> Figures:
        """Return the figures of the autoencoder."""
        training = self.training
        name = f"{_named(one, turn)}-{training.images}x{training.epochs}"
        checkpoint = self.build / "vae" / f"{name}.pt"

        def compute() -> Figures:
            there = self._turned(one, turn)
            return vae.judge(train(there.train, training, checkpoint), there.test)

        what = f"VAE {training.images}x{training.epochs}"
        figures = self._cell(one, what, compute, turn, backbone=None)
        checkpoint.unlink(missing_ok=True)
        return figures

    def padim(self, one: ImageSet, system: pipeline.Padim, turn: int | None = None) -> Figures:
        """Return the figures of the pipeline on a set."""
        geometry = CUT if turn is not None else CROPPED

        def compute() -> Figures:
            archive = {"url": str(self._turned(one, turn).root), "layout": "mvtec"}
            place = self.build / "workspaces" / f"{_named(one, turn)}-{system.name}"
            weights = self.weights[system.backbone]
            return pipeline.run(system, weights, archive, place, geometry)["all"]

        return self._cell(one, system.name, compute, turn, backbone=system.backbone)

    def films(self, films: Films) -> Figures:
        """Return the mean figures of the pipeline over the scenes of fixed cameras."""

        def compute() -> Figures:
            place = self.build / "films" / films.name
            table = films.write_table(place)
            folders = [str(films.root.resolve())]
            archive: dict[str, str | list[str]] = {
                "url": str(table),
                "layout": "table",
                "allow": folders,
            }
            weights = self.weights[R18]
            found = pipeline.run(pipeline.R18, weights, archive, place / "audit", WHOLE)
            return mean_figures(list(found.values()))

        name = f"films {films.name} {pipeline.R18.name}"
        return self.cells.get(name, self._settings(films.digest, R18), compute)

    def features(
        self,
        one: ImageSet,
        backbone: str = R18,
        geometry: InputGeometry = CROPPED,
        place: Path | None = None,
    ) -> Features:
        """Return the feature maps of a set."""
        folder = (place or self.build) / "features"
        return features_of(one, backbone, self.weights[backbone], geometry, folder)

    def forget(self, turn: int) -> None:
        """Remove the turned sets of a seed and their features; results are kept."""
        shutil.rmtree(self._place(turn), ignore_errors=True)

    def _three(self, one: ImageSet) -> Features:
        return self.features(one).first(LAYERS)

    def _place(self, turn: int | None) -> Path:
        return self.build if turn is None else self.build / "turned" / f"seed-{turn}"

    def _turned(self, one: ImageSet, turn: int | None) -> ImageSet:
        return one if turn is None else write_turned(one, turn, self._place(turn))

    def _on_features(
        self, one: ImageSet, what: str, change: Change, seed: int | None = None
    ) -> Figures:
        name = what if seed is None else f"{what} seed {seed}"
        return self._cell(
            one, name, lambda: padim.judge(self._three(one), one.test, CROPPED, change)
        )

    def _cell(
        self,
        one: ImageSet,
        what: str,
        compute: Callable[[], Figures],
        turn: int | None = None,
        backbone: str | None = R18,
    ) -> Figures:
        name = f"{_named(one, turn)} {what}"
        return self.cells.get(name, self._settings(one.digest, backbone), compute)

    def _settings(self, digest: str, backbone: str | None) -> Settings:
        weights = weights_digest(self.weights[backbone]) if backbone else None
        return {"set": digest, "weights": weights, "version": VERSION}


def _named(one: ImageSet, turn: int | None) -> str:
    return one.name if turn is None else f"{one.name}-turned-{turn}"
