"""Every form of TIFF that tifffile writes: right, clearly refused, or silently wrong.

`python -m tests.archive.tiff_matrix` writes each form to memory, reads it with tifffile, maps what
tifffile reads to 8-bit RGB in plain numpy (here, from the definitions of TIFF 6.0), and compares.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import tifffile

from padim_dist.archive.reading.decode import decode
from padim_dist.errors import ImageError

HEIGHT, WIDTH = 40, 52
SPACES = {"miniswhite": 1, "minisblack": 1, "rgb": 3, "palette": 1, "separated": 4, "ycbcr": 3}
BITS = [
    *(("u", bits) for bits in (1, 2, 4, 8, 10, 12, 14, 16, 32)),
    *(("i", bits) for bits in (8, 16, 32)),
    *(("f", bits) for bits in (16, 32)),
]
COMPRESSIONS = (None, "lzw", "zlib", "packbits", "zstd", "lzma", "jpeg", "webp", "jpeg2000", "png")
ALPHAS = ((), ("assocalpha",), ("unassalpha",), ("unspecified",))
LAYOUTS: dict[str, dict[str, Any]] = {
    "a strip": {"rowsperstrip": HEIGHT},
    "strips": {"rowsperstrip": 16},
    "tiles": {"tile": (16, 32)},
}
OTHERWISE = "tifffile wrote other values than it was given"
"""It swaps the bytes of packed samples in big-endian files; the reader has the bits of the file."""
CLOSE = 2
"""Grey levels: 16-bit colours are cut to their high byte, and libjpeg rounds."""


@dataclass(frozen=True)
class Form:
    """A form of TIFF."""

    kind: str
    bits: int
    space: str
    planes: str
    order: str
    compression: str | None
    layout: str
    predictor: bool
    alpha: tuple[str, ...]


def forms() -> Iterator[Form]:
    """Yield every form that makes sense; tifffile refuses to write some of them."""
    for (kind, bits), space, planes, order, compression, layout, predictor, alpha in product(
        BITS,
        SPACES,
        ("contig", "separate"),
        "<>",
        COMPRESSIONS,
        LAYOUTS,
        (False, True),
        ALPHAS,
    ):
        if planes == "separate" and SPACES[space] + len(alpha) == 1:
            continue
        if predictor and compression not in ("lzw", "zlib", "zstd", "lzma"):
            continue
        yield Form(kind, bits, space, planes, order, compression, layout, predictor, alpha)


def write(form: Form) -> tuple[bytes, np.ndarray] | None:
    """Return a file of a form and its values; None if tifffile does not write it."""
    count = SPACES[form.space] + len(form.alpha)
    across, down = np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT)[:, None]
    ways = [across + 0 * down, 1 - across + 0 * down, down + 0 * across, 0.5 * (across + down)]
    values = np.stack([ways[i % 4] for i in range(count)], axis=-1)
    if form.alpha:
        values[..., -1] = 0.5 + 0.5 * values[..., -1]
    if form.alpha == ("assocalpha",):
        values[..., :-1] *= values[..., -1:]
    dtype = _dtype(form)
    if form.kind != "f":
        values = values * (2 ** (form.bits - (form.kind == "i")) - 1)
        values = values.round()
    array = values.astype(dtype)
    if form.planes == "separate":
        array = np.moveaxis(array, -1, 0)
    elif count == 1:
        array = array[..., 0]
    options: dict[str, Any] = dict(LAYOUTS[form.layout])
    if form.compression:
        options["compression"] = form.compression
        options["predictor"] = form.predictor
    if form.kind == "u" and form.bits not in (8, 16, 32):
        options["bitspersample"] = form.bits
    if form.space == "palette":
        rng = np.random.default_rng(form.bits)
        if form.bits > 8:
            return None
        options["colormap"] = rng.integers(0, 2**16, (3, 2**form.bits), np.uint16)
    if form.space == "ycbcr" and form.compression != "jpeg":
        options["subsampling"] = (1, 1)
    if form.planes == "separate" or count > 1:
        options["planarconfig"] = form.planes
    if form.alpha:
        options["extrasamples"] = form.alpha
    sink = io.BytesIO()
    try:
        tifffile.imwrite(
            sink, array, photometric=form.space, byteorder=form.order, metadata=None, **options
        )
    except Exception:  # whatever it does not write
        return None
    return sink.getvalue(), array


def expected(values: np.ndarray, page: tifffile.TiffPage, form: Form) -> np.ndarray:
    """Map what tifffile reads to 8-bit RGB (H, W, 3), in plain numpy."""
    space = page.photometric.name.lower()
    if form.planes == "separate":
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(HEIGHT, WIDTH, -1)
    if space == "palette":
        return np.moveaxis(page.colormap, 0, -1)[values[..., 0].astype(int)] // 256
    share = values.astype(float) / (2**form.bits - 1)
    if form.alpha == ("assocalpha",):
        share = np.minimum(share / np.maximum(share[..., -1:], 1e-9), 1)
    share = share[..., : SPACES[space]]
    if space == "ycbcr" and form.compression != "jpeg":
        y, blue, red = np.moveaxis(share * 255, -1, 0)
        rgb = [
            y + 1.402 * (red - 128),
            y - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
            y + 1.772 * (blue - 128),
        ]
        share = np.clip(np.stack(rgb, -1), 0, 255) / 255
    if space == "separated":
        share = (1 - share[..., :3]) * (1 - share[..., 3:])
    if space == "miniswhite":
        share = 1 - share
    return np.broadcast_to(share * 255, (HEIGHT, WIDTH, 3))


def judge(form: Form) -> str | None:
    """Return ``right``, ``wrong: ...`` or the reason of a refusal; None if it is not written."""
    written = write(form)
    if written is None:
        return None
    data, array = written
    try:
        found = decode(data, 10**6).permute(1, 2, 0).numpy().astype(float)
    except ImageError as error:
        return error.reason
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        values = page.asarray(maxworkers=1)
        if form.compression != "jpeg" and not np.array_equal(values, array):
            return OTHERWISE
        wanted = expected(values, page, form)
    off = np.abs(found - wanted).max() if found.shape == wanted.shape else np.inf
    # Dividing by a small opacity multiplies the rounding.
    return "right" if off <= CLOSE + 2 * bool(form.alpha) else f"wrong by {off:.1f}: {form}"


def _dtype(form: Form) -> np.dtype[Any]:
    size = {"f": {16: 2, 32: 4}}.get(form.kind, {}).get(form.bits)
    return np.dtype(f"{form.kind}{size or (1 if form.bits <= 8 else 2 if form.bits <= 16 else 4)}")


def main() -> int:
    """Print the numbers of each verdict; return how many forms are wrong."""
    warnings.simplefilter("ignore")
    found = Counter(verdict for form in forms() if (verdict := judge(form)))
    for verdict, count in found.most_common():
        print(f"{count:6,} {verdict}")
    return sum(verdict.startswith("wrong") for verdict in found)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
