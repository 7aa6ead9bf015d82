"""How a picture lies against a reference: phase correlation, then refinement.

The reference is turned once, in steps, and the spectra of its turned copies are kept. A picture is
transformed once and compared with all of them, at a low resolution; the best turn and shift are
refined on a finer grid by Gauss-Newton steps that also fit gain and offset of the light, so that
they maximise the correlation (ECC, in its inverse compositional form: the reference's gradients
are computed once).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, cos, radians, sin

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from padim_dist.core.align.motion import NOT_ALIGNED, Alignment, Motion
from padim_dist.core.align.reference import Reference, same_shape
from padim_dist.core.geometry import Grid

_COARSE = 2
"""The first search is on a grid with so many times larger pixels."""
_STEP = 2.0
"""Degrees between two turned copies of the reference."""
_ROUNDS, _STILL = 12, 0.005
"""Most steps of the refinement. It has ended when one changes the picture by less than this share
of its contrast: a round thing can be turned for ever."""
_TURN = 2
"""Place of the turn among the numbers that a step of the refinement finds."""
_STIFFNESS = 1e-4
"""Pull of the turn towards 0, as a share of what holds it in a picture with details everywhere. It
decides where the picture does not: round things look alike in every direction."""
_FLOOR = 0.5
"""Least correlation of an aligned picture."""
_TOLERANCE = 0.01
"""Correlation that a picture may lose if it is held within the bounds."""
_DIGITS = 3
"""Decimals of a result."""


@dataclass(frozen=True)
class Aligner:
    """Finds how pictures lie against a reference, within bounds.

    Attributes
    ----------
    reference : Reference
        The picture to align with.
    shift : float
        Largest shift along each axis, in pixels of the resized picture.
    rotate : float
        Largest turn in degrees; 180: any direction.
    """

    reference: Reference
    shift: float
    rotate: float

    def find(self, levels: Tensor, size: Grid, resize: Grid) -> Alignment:
        """Return how a picture lies against the reference.

        Parameters
        ----------
        levels : Tensor
            The picture in grey on the reference's grid, float32; see `reference.grey`.
        size, resize : (int, int)
            Height and width of the original, and of the resized picture.

        Returns
        -------
        Alignment
            Without a motion if the picture has another shape than the reference, lies beyond the
            bounds, or is unlike it.
        """
        if not same_shape(size, self.reference.size):
            return NOT_ALIGNED
        return _prepared(self, resize).find(levels)


class _Search:
    """A reference, prepared for the comparison with many pictures.

    Turns and shifts are in pixels of the grid here, whose shape may differ from the original's.
    """

    def __init__(self, aligner: Aligner, resize: Grid) -> None:
        reference = aligner.reference
        self._grid = height, width = reference.grid
        self._stretch = reference.height * width / (reference.width * height)
        self._scale = resize[0] / height, resize[1] / width  # pixels of a pixel of the grid
        self._limits = aligner.shift, aligner.rotate
        pixels = torch.from_numpy(reference.pixels.astype(np.float32))
        self._places = _places(self._grid)
        self._reference = smooth = _smoothed(pixels)
        self._steepest = self._descent(smooth)
        self._contrast = float((smooth - smooth.mean()).square().sum())
        curvature = float(self._steepest[_TURN + 1 :].square().sum()) * self._radius_square()
        self._stiff = max(_STIFFNESS * radians(1) ** 2 * curvature, 1e-6)
        steps = ceil(aligner.rotate / _STEP)
        turns = [max(-aligner.rotate, min(i * _STEP, aligner.rotate)) for i in range(-steps, steps)]
        self._angles = [*dict.fromkeys([*turns, min(steps * _STEP, aligner.rotate)])]
        self._small = height // _COARSE, width // _COARSE
        self._window = torch.outer(*(torch.hann_window(n, periodic=False) for n in self._small))
        self._spectra = self._turned_spectra(pixels)
        self._allowed = self._allowed_shifts()

    def find(self, levels: Tensor) -> Alignment:
        picture = _smoothed(levels)
        start = max(
            (self._coarse(levels), (0.0, 0.0, 0.0)), key=lambda m: self._quality(picture, m)
        )
        free = self._refine(picture, start)
        angle, y, x = held = self._held(free)
        quality = self._quality(picture, held)
        # Beyond the bounds, unless that hardly matters: a round thing may be turned by anything.
        is_beyond = held != free and quality < self._quality(picture, free) - _TOLERANCE
        if is_beyond or not quality >= _FLOOR:
            return NOT_ALIGNED
        shift_y, shift_x = y * self._scale[0], x * self._scale[1]
        motion = Motion(*(round(value, _DIGITS) for value in (shift_y, shift_x, angle)))
        return Alignment(motion, round(quality, _DIGITS))

    def _held(self, motion: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return a motion, held within the bounds."""
        angle, *places = motion
        shift, rotate = self._limits
        y, x = (
            max(-shift / scale, min(place, shift / scale))
            for place, scale in zip(places, self._scale, strict=True)
        )
        if rotate == 180:  # any direction
            return (angle + 180) % 360 - 180, y, x
        return max(-rotate, min(angle, rotate)), y, x

    def _coarse(self, levels: Tensor) -> tuple[float, float, float]:
        """Return the best turn and shift (angle, y, x) by phase correlation."""
        cross = self._spectrum(functional.adaptive_avg_pool2d(levels[None], self._small))
        cross = cross * self._spectra
        cross = cross / cross.abs().clamp(min=1e-6)
        peaks = torch.fft.irfft2(cross, s=self._small)
        rows, columns = self._allowed
        near = peaks[:, rows[:, None], columns]
        place = int(near.argmax())
        turn, rest = divmod(place, near.shape[1] * near.shape[2])
        row, column = divmod(rest, near.shape[2])
        y, x = (
            float((index + n // 2) % n - n // 2) * _COARSE
            for index, n in zip((int(rows[row]), int(columns[column])), self._small, strict=True)
        )
        return self._angles[turn], y, x

    def _refine(
        self, picture: Tensor, start: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        angle, y, x = start
        for _ in range(_ROUNDS):
            sampled, inside = self._sample(picture, (angle, y, x))
            steepest = self._steepest * inside
            normal = (steepest @ self._steepest.T).double()
            wanted = (steepest @ sampled).double()
            normal[_TURN, _TURN] += self._stiff
            wanted[_TURN] += self._stiff * angle
            gain, _, turn, down, right = torch.linalg.lstsq(normal, wanted).solution.tolist()
            if not abs(gain) > 1e-6:
                break
            step = torch.tensor([turn, down, right], dtype=torch.float64)
            change = float(step @ normal[_TURN:, _TURN:] @ step)
            turn, down, right = turn / gain, down / gain, right / gain
            angle -= turn
            (a, b), (c, d) = self._turn(angle)
            y, x = y - (a * down + b * right), x - (c * down + d * right)
            if change < _STILL**2 * self._contrast:
                break
        return angle, y, x

    def _quality(self, picture: Tensor, motion: tuple[float, float, float]) -> float:
        """Return the correlation of a picture with the reference where they overlap, at least 0."""
        sampled, inside = self._sample(picture, motion)
        count = inside.sum().clamp(min=1)
        one, other = (
            (values - (values * inside).sum() / count) * inside
            for values in (sampled, self._reference.flatten())
        )
        lengths = (one.square().sum() * other.square().sum()).sqrt().clamp(min=1e-6)
        is_enough = float(count) >= 0.25 * inside.numel()
        return max(float((one * other).sum() / lengths), 0.0) if is_enough else 0.0

    def _sample(self, picture: Tensor, motion: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
        """Return a picture (flat) as the reference lies, and where it has pixels: 1, else 0."""
        angle, y, x = motion
        (a, b), (c, d) = self._turn(angle)
        height, width = self._grid
        rows, columns = self._places
        at = torch.empty(1, height, width, 2)  # -1 and 1 are the edges
        torch.add((c * rows + x) * (2 / width), (d * 2 / width) * columns, out=at[0, ..., 0])
        torch.add((a * rows + y) * (2 / height), (b * 2 / height) * columns, out=at[0, ..., 1])
        sampled = functional.grid_sample(
            picture[None, None], at, "bilinear", "border", align_corners=False
        )
        inside = (at.abs().amax(dim=-1) <= 1).to(torch.float32)
        return sampled.flatten(), inside.flatten()

    def _turn(self, angle: float) -> tuple[tuple[float, float], tuple[float, float]]:
        turn = radians(angle)
        return (cos(turn), -sin(turn) / self._stretch), (sin(turn) * self._stretch, cos(turn))

    def _descent(self, pixels: Tensor) -> Tensor:
        """Return how pixels change with gain, offset, turn (degrees) and shift: (5, pixels)."""
        down, right = torch.gradient(pixels)
        rows, columns = self._places
        turned = radians(1) * (down * (-columns / self._stretch) + right * (rows * self._stretch))
        every = (pixels, torch.ones_like(pixels), turned, down, right)
        return torch.stack([one.flatten() for one in every])

    def _radius_square(self) -> float:
        """Return the mean squared distance of pixels from the middle."""
        rows, columns = self._places
        return float(rows.square().mean() + columns.square().mean())

    def _turned_spectra(self, pixels: Tensor) -> Tensor:
        copies = []
        for angle in self._angles:
            # The content turns by the angle if the place that is sampled turns back.
            sampled, _ = self._sample(pixels, (-angle, 0.0, 0.0))
            copies.append(sampled.view(self._grid))
        small = functional.adaptive_avg_pool2d(torch.stack(copies), self._small)
        return self._spectrum(small).conj()

    def _spectrum(self, pictures: Tensor) -> Tensor:
        means = pictures.mean(dim=(-2, -1), keepdim=True)
        spectrum: Tensor = torch.fft.rfft2((pictures - means) * self._window)
        return spectrum

    def _allowed_shifts(self) -> tuple[Tensor, Tensor]:
        """Return the rows and columns of a correlation that stand for shifts within the bounds."""
        found = []
        for side, scale in zip(self._small, self._scale, strict=True):
            most = min(ceil(self._limits[0] / (scale * _COARSE)), side // 2 - 1)
            found.append(torch.arange(-most, most + 1) % side)
        return found[0], found[1]


def _places(grid: Grid) -> tuple[Tensor, Tensor]:
    """Return y and x of the centres of pixels, from the middle of the grid: (h, 1) and (1, w)."""
    rows, columns = (torch.arange(side) - (side - 1) / 2 for side in grid)
    return rows[:, None], columns[None]


def _smoothed(levels: Tensor) -> Tensor:
    """Return a picture, smoothed: steps of the refinement then see further."""
    for _ in range(2):  # binomial: 1 2 1, along both axes
        padded = functional.pad(levels[None, None], (1, 1, 1, 1), "replicate")[0, 0]
        rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
        levels = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16
    return levels


@lru_cache(maxsize=4)
def _prepared(aligner: Aligner, resize: Grid) -> _Search:
    return _Search(aligner, resize)
