"""Synthetic films of a fixed camera over a conveyor belt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from padim_dist.events import Listener, Progress, ignore

FILM = "packing/test/tuesday.mp4"
"""The film with an anomaly, in the folder of `make_films`."""
_NORMAL = "packing/train/monday.mp4"
REACHES = (5.0, 7.4)
"""Seconds of `FILM` in which an arm reaches over the belt."""
_SECONDS, _RATE = 12, 10
_HEIGHT, _WIDTH = 240, 320
_BELT = (84, 172)
"""First and last row of the belt."""
_SPEED, _APART = 64, 150
"""Pixels a second; pixels from one carton to the next."""


def make_films(folder: Path, seed: int = 7, listener: Listener = ignore) -> None:
    """Draw two films: cartons pass on a belt, and in the second one an arm reaches over it.

    Parameters
    ----------
    folder : Path
        Gets a normal film in ``packing/train``, and `FILM`.
    seed : int
        The same seed draws the same pictures.
    listener : callable, optional
        Receives the progress.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    """
    import av

    rng = np.random.default_rng(seed)
    floor = _draw_floor(rng)
    total = 2 * _SECONDS * _RATE
    for number, name in enumerate((_NORMAL, FILM)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shades = rng.integers(-16, 17, 64)
        with av.open(str(path), "w") as film:
            stream = film.add_stream("mpeg4", rate=_RATE)  # the one encoder of every FFmpeg
            stream.height, stream.width, stream.pix_fmt = _HEIGHT, _WIDTH, "yuv420p"
            stream.bit_rate = 2_000_000
            for shown in range(_SECONDS * _RATE):
                reach = _reach(shown / _RATE) if number == 1 else 0.0
                pixels = _draw(floor, shown / _RATE, shades, reach, rng)
                film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                listener(Progress("draw", total, number * total // 2 + shown + 1))
            film.mux(stream.encode())


def _reach(second: float) -> float:
    """Return how far the arm reaches in: 0, not at all, to 1."""
    start, end = REACHES
    if not start <= second <= end:
        return 0.0
    return min(1.0, 0.25 + 1.5 * min(second - start, end - second))


def _draw_floor(rng: np.random.Generator) -> Image.Image:
    """Draw what stands still: floor, the frame of the belt, and the belt."""
    level = 118 + rng.normal(0, 6, (_HEIGHT // 4, _WIDTH // 4))
    level[_BELT[0] // 4 : _BELT[1] // 4] -= 66
    grain = Image.fromarray(level.astype(np.uint8)).resize((_WIDTH, _HEIGHT))
    floor = grain.convert("RGB")
    pen = ImageDraw.Draw(floor)
    for row in _BELT:
        pen.rectangle((0, row - 5, _WIDTH, row + 5), fill=(172, 176, 180))
        pen.line((0, row + 5, _WIDTH, row + 5), fill=(70, 72, 76), width=2)
        for left in range(12, _WIDTH, 40):
            pen.ellipse((left, row - 2, left + 4, row + 2), fill=(84, 86, 90))
    return floor


def _draw(
    floor: Image.Image,
    second: float,
    shades: npt.NDArray[np.int64],
    reach: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """Draw a frame, uint8, (height, width, 3); cartons have one shade each."""
    picture = floor.copy()
    pen = ImageDraw.Draw(picture)
    moved = second * _SPEED
    for number in range(int((moved + _WIDTH) // _APART) + 2):
        left = moved - number * _APART + _WIDTH - 80
        shade = int(shades[number % len(shades)])
        brown = (176 + shade, 132 + shade, 84 + shade)
        pen.rectangle((left, 102, left + 74, 154), fill=brown, outline=(96, 70, 44), width=2)
        pen.rectangle((left, 124, left + 74, 132), fill=(206, 180, 136))
    if reach > 0:
        end = reach * 118
        pen.line((188, -20, 176, end), fill=(52, 84, 150), width=30)
        pen.ellipse((160, end - 16, 192, end + 20), fill=(222, 172, 142))
    light = 1 + rng.normal(0, 0.01)
    noisy = np.asarray(picture, np.float64) * light + rng.normal(0, 2, (_HEIGHT, _WIDTH, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)
