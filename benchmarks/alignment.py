"""Alignment on the bottle set, turned and cropped at random: AUROC with it and without.

``python -m benchmarks.alignment [--draws 5] [--still] [--speed]``. As in the paper's Rd-MVTec AD
every image is turned by up to 10 degrees and 7/8 of it, at a random place, are kept. A model is
fitted on the training images and scores the test images, in this process. ``--still`` does the
same with the set as it is; ``--speed`` measures processor time an image.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from benchmarks.pictures import BOTTLES, WEIGHTS
from padim_dist.archive.reading.transform import (
    prepare,
    prepare_aligned,
    prepare_mask,
    together,
)
from padim_dist.core.align.median import median_reference
from padim_dist.core.align.motion import Motion
from padim_dist.core.align.reference import grey, grid_of
from padim_dist.core.align.search import Aligner
from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.covariance import Covariance
from padim_dist.core.evaluation.metrics import PixelCounts, exact_curve
from padim_dist.core.gaussian import factorise
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.moments import Moments
from padim_dist.core.trunk import Trunk, trunk_state

_TURN, _KEPT = 10.0, 7 / 8
_SHIFT, _ROTATE = 24.0, 10.0
_SAMPLE = 32
_BATCH = 32
_LAYERS, _CHANNELS = DEFAULTS["resnet18"]
Picture = tuple[Tensor, Tensor]
"""Pixels (3, H, W), uint8, and the mask (H, W), bool."""


def draw_picture(path: Path, random: np.random.Generator | None) -> Picture:
    """Return an image of the set, turned and cropped at random, with its mask."""
    image = Image.open(path).convert("RGB")
    mask = Image.new("L", image.size)
    if (file := _mask_of(path)).exists():
        mask = Image.open(file).convert("L").resize(image.size, Image.Resampling.NEAREST)
    pixels, truth = np.asarray(image), np.asarray(mask) > 0
    if random is not None:
        angle, side = random.uniform(-_TURN, _TURN), pixels.shape[0]
        edge = side // 4  # the background goes on
        wide = np.pad(pixels, ((edge, edge), (edge, edge), (0, 0)), "edge")
        turned = Image.fromarray(wide).rotate(angle, Image.Resampling.BICUBIC)
        covers = Image.fromarray(np.pad(truth, edge)).rotate(angle)
        kept = round(_KEPT * side)
        top, left = edge + random.integers(0, side - kept + 1, 2)
        window = np.s_[top : top + kept, left : left + kept]
        pixels, truth = np.asarray(turned)[window], np.asarray(covers)[window]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1), torch.from_numpy(truth.copy())


def _mask_of(path: Path) -> Path:
    folder = BOTTLES / "ground_truth" / path.parent.name
    return folder / f"{path.stem}_mask.png"


class Measure:
    """Fits and scores pictures in memory.

    Parameters
    ----------
    side : int
        Height and width of the resized pictures.
    """

    def __init__(self, side: int) -> None:
        self.geometry = InputGeometry((side, side), (side, side))
        spec, self.shape = plan_trunk("resnet18", _LAYERS, _CHANNELS, 1024, (side, side))
        self.trunk = Trunk(spec, trunk_state("resnet18", _LAYERS, torch.load(WEIGHTS)))

    def aligner(self, pictures: list[Picture]) -> Aligner:
        """Return the aligner of a sample of pictures."""
        some = np.random.default_rng(0).choice(len(pictures), _SAMPLE, replace=False)
        resize = self.geometry.resize
        levels = []
        for pixels in (pictures[place][0] for place in some):
            size = (pixels.shape[1], pixels.shape[2])
            levels.append((grey(prepare(pixels, self.geometry), grid_of(resize)), size))
        return Aligner(median_reference(levels, resize, _SHIFT, _ROTATE), _SHIFT, _ROTATE)

    def run(self, train: list[Picture], test: list[Picture], is_aligned: bool) -> str:
        """Return image and pixel AUROC of a model."""
        aligner = self.aligner(train) if is_aligned else None
        moments = Moments.zeros(self.shape)
        lost = 0
        for pixels, motions, _ in self._batches(train, aligner):
            lost += motions.count(None)
            moments.update(self._embed(pixels))
        gaussian = factorise(moments, Covariance.of(moments, 0.01))
        anomaly_map = AnomalyMap.build(self.shape.grids[0], self.geometry.crop, 4.0)
        counts, scores = PixelCounts(), list[float]()
        for pixels, motions, masks in self._batches(test, aligner):
            lost += motions.count(None)
            distances = self.shape.unnest(gaussian.distances(self._embed(pixels)))
            maps = anomaly_map.full(distances)
            scores += find_peaks(maps)[0].tolist()
            for one, motion, mask in zip(maps, motions, masks, strict=True):
                size = (mask.shape[0], mask.shape[1])
                truth = prepare_mask(mask, self.geometry, size, motion).numpy()
                counts.update(one.numpy(), ndimage.label(truth, np.ones((3, 3)))[0])
        anomalous = np.array([bool(mask.any()) for _, mask in test])
        image = exact_curve(np.array(scores), anomalous).auroc()
        not_aligned = f", {lost} not aligned" if aligner else ""
        return f"{image:.4f} {counts.curve().auroc():.4f}{not_aligned}"

    def _batches(
        self, pictures: list[Picture], aligner: Aligner | None
    ) -> Iterator[tuple[Tensor, list[Motion | None], list[Tensor]]]:
        for start in range(0, len(pictures), _BATCH):
            prepared, motions, masks = [], list[Motion | None](), []
            for pixels, mask in pictures[start : start + _BATCH]:
                if aligner:
                    one, found = prepare_aligned(pixels, self.geometry, aligner)
                    motions.append(found.motion)
                else:
                    one = prepare(pixels, self.geometry)
                    motions.append(None)
                prepared.append(one)
                masks.append(mask)
            yield together(prepared), motions, masks

    def _embed(self, pixels: Tensor) -> list[Tensor]:
        return self.shape.nest(self.trunk(pixels))


def measure_speed(pictures: list[Picture]) -> str:
    """Return milliseconds of processor time an image of the alignment at 256 pixels."""
    torch.set_num_threads(1)
    measure = Measure(256)
    aligner = measure.aligner(pictures)
    times: dict[str, list[float]] = {"as it is": [], "aligned": []}
    for pixels, _ in pictures[:100]:
        works: tuple[tuple[str, Callable[[], object]], ...] = (
            ("as it is", lambda: prepare(pixels, measure.geometry)),  # noqa: B023
            ("aligned", lambda: prepare_aligned(pixels, measure.geometry, aligner)),  # noqa: B023
        )
        for name, work in works:
            began = time.thread_time()  # of this thread, also on a busy machine
            work()
            times[name].append(1e3 * (time.thread_time() - began))
    middle = {name: float(np.median(values)) for name, values in times.items()}
    more = middle["aligned"] - middle["as it is"]
    return f"{more:.2f} ms an image more ({middle['as it is']:.2f} as it is, medians of 100)"


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--still", action="store_true")
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    train = sorted((BOTTLES / "train/good").glob("*.jpg"))
    test = sorted((BOTTLES / "test").glob("*/*.jpg"))
    still = [draw_picture(path, None) for path in train]
    if asked.still:
        others = [draw_picture(path, None) for path in test]
        for is_aligned in (False, True):
            found = Measure(256).run(still, others, is_aligned)
            print(f"still, {'aligned' if is_aligned else 'as it is'}: {found}", flush=True)
    for draw in range(asked.draws):
        random = np.random.default_rng(draw)
        turned = [draw_picture(path, random) for path in train]
        others = [draw_picture(path, random) for path in test]
        for is_aligned in (False, True):
            found = Measure(224).run(turned, others, is_aligned)
            print(f"draw {draw}, {'aligned' if is_aligned else 'as it is'}: {found}", flush=True)
    if asked.speed:
        print(measure_speed(still))


if __name__ == "__main__":
    main()
