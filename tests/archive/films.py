"""Films for tests, and how a plain decoder reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from padim_dist.archive.listing.layouts import find_layout
from padim_dist.archive.listing.layouts.base import Listing
from padim_dist.archive.listing.spool import Spool
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.storage import Folder

X264 = {"preset": "ultrafast", "bf": "3", "g": "20", "sc_threshold": "0"}
MS = Fraction(1, 1000)


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a picture in which something moves: uint8, (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    shades = [x * 3 + number * 5, y * 4 + number * 7, (x + y) * 2 + number * 11]
    made = (np.stack(shades, axis=-1) % 256).astype(np.uint8)
    left = number * 2 % 50
    made[10:20, left : left + 10] = 255 - number % 256
    return made


def make_film(
    path: Path,
    pictures: Iterable[np.ndarray],
    codec: str = "libx264",
    rate: int = 10,
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    pixels: str = "yuv420p",
    **container: Any,
) -> Path:
    """Write a film; `times` are milliseconds, by default a picture each 1 / `rate` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", **container) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pixels
        for number, shown in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = shown.shape[:2]
                stream.codec_context.time_base = MS if times else Fraction(1, rate)
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(format=pixels)
            if times is not None:
                frame.time_base, frame.pts = MS, times[number]
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def plain_frames(path: Path) -> dict[str, np.ndarray]:
    """Return what a plain decoder gives, from the beginning: pictures by their time."""
    with av.open(str(path)) as file:
        return {
            f"t={float(round(frame.pts * frame.time_base * 1000)) / 1000:.3f}": np.rot90(
                frame.to_ndarray(format="rgb24"), frame.rotation // 90
            )
            for frame in file.decode(video=0)
        }


def film_rows(
    folder: Path | str | Folder, every: str = "1 frame", **listing: Any
) -> list[ImageRow]:
    """Index the films of a folder."""
    settings = {"train": "(^|/)train/", "group": None, **listing}
    with Spool() as spool:
        root = folder if isinstance(folder, Folder) else Folder(str(folder))
        find_layout("video")(Listing(root, every=every, **settings), spool)
        return [row for table in spool.sorted().tables() for row in to_rows(table)]
