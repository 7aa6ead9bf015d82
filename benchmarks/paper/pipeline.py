"""PaDiM by the pipeline itself: index, fit, score and evaluate of the public interface."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

import padim_dist as padim
from benchmarks.paper.protocol import CROPPED, Figures
from padim_dist.cli.progress import progress_bars
from padim_dist.config import make_config
from padim_dist.config.align import AlignConfig
from padim_dist.core.geometry import InputGeometry


@dataclass(frozen=True)
class Padim:
    """A PaDiM of the paper.

    Attributes
    ----------
    name : str
        As in the paper, e.g. ``PaDiM-R18-Rd100``.
    backbone : str
        A backbone with default layers in the pipeline.
    channels : int or None
        Drawn channels; None: all.
    align : AlignConfig or None
        Alignment of the images, which the paper has not.
    """

    name: str
    backbone: str
    channels: int | None
    align: AlignConfig | None = None


R18 = Padim("PaDiM-R18-Rd100", "resnet18", 100)
R18_ALIGNED = replace(R18, name=f"{R18.name}, aligned", align=AlignConfig(shift=24, rotate=10))
WR50 = Padim("PaDiM-WR50-Rd550", "wide_resnet50_2", 550)
B5 = Padim("PaDiM-EfficientNet-B5", "efficientnet_b5", None)


def run(
    system: Padim,
    weights: Path,
    archive: Mapping[str, str | list[str]],
    workspace: Path,
    geometry: InputGeometry = CROPPED,
) -> dict[str, Figures]:
    """Fit and evaluate a model in a workspace of its own, which is removed afterwards.

    A run that was killed goes on: the workspace has what is done.

    Parameters
    ----------
    system : Padim
        Backbone and channels.
    weights : Path
        State dict of the backbone.
    archive : mapping
        Section ``archive`` of the configuration.
    workspace : Path
        Folder of the workspace.
    geometry : InputGeometry, optional
        Resize and crop.

    Returns
    -------
    dict of str to Figures
        By group, ``all`` without groups.
    """
    config = make_config(
        {
            "workspace": str(workspace),
            "archive": dict(archive),
            "model": {
                "backbone": system.backbone,
                "weights": str(weights),
                "channels": system.channels,
                "resize": list(geometry.resize),
                "crop": list(geometry.crop),
                "epsilon": 0.01,
                "sigma": 4.0,
                "align": system.align.model_dump() if system.align else None,
            },
            # The figures need no p-values.
            "fit": {"sample": 0, "suspects": "keep"},
            "score": {"splits": ["test"]},
        }
    )
    with progress_bars(Console()) as listener:
        padim.fit(config, listener)
        padim.score(config, listener)
        found = padim.evaluate(config, listener).groups
    shutil.rmtree(workspace)
    return {
        group: Figures(figures.image_auroc, figures.pixel_auroc, figures.pro)
        for group, figures in found.items()
    }
