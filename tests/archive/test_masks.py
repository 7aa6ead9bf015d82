"""Masks that do not go with their images are found; sound ones are not."""

from __future__ import annotations

import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from padim_dist.archive.reading import masks
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.core.geometry import InputGeometry

READER = ImageReader(ObjectFetcher({}), InputGeometry((72, 72), (64, 64)), 10**6)
Pixels = npt.NDArray[np.uint8]


def saved(picture: Image.Image, path: Path, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)
    return path


def row_of(image: Path, mask: str | Path) -> ImageRow:
    size = image.stat().st_size
    return ImageRow("", str(image), None, 0, size, size, None, "a", "test", "spot", str(mask))


def check(
    folder: Path,
    mask: Image.Image,
    size: tuple[int, int] = (96, 80),
    orientations: tuple[int, int] = (1, 1),
) -> masks.CheckedMask:
    """Check a mask of an image of a width and height; orientations of image and mask."""
    image = saved(Image.new("RGB", size), folder / "a.jpg", orientations[0])
    return masks.check_mask(READER, row_of(image, saved(mask, folder / "m.png", orientations[1])))


def square(size: tuple[int, int] = (96, 80), inside: int = 255, outside: int = 0) -> Image.Image:
    """Return a mask of a width and height with a defect of 16 x 16."""
    pixels: Pixels = np.full(size[::-1], outside, np.uint8)
    pixels[40:56, 20:36] = inside
    return Image.fromarray(pixels)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("inside", [255, 1])
def test_sound_masks(tmp_path, scale, inside):
    """Also a mask at a fraction of its image's size, and one with class 1."""
    mask = square((96 * 4, 80 * 4), inside).reduce(scale) if inside == 255 else square(inside=1)
    found = check(tmp_path, mask, (96 * 4, 80 * 4))
    assert found.fault is None
    assert found.pixels is not None
    assert found.pixels.shape == mask.size[::-1]


def with_alpha(colour: int) -> Image.Image:
    picture = Image.new("RGBA", (96, 80), (colour,) * 3)
    picture.putalpha(square())
    return picture


@pytest.mark.parametrize(
    ("mask", "fault", "detail"),
    [
        (square().transpose(Image.Transpose.TRANSPOSE), masks.SHAPE, "80x96, its image 96x80"),
        (square().crop((8, 0, 96, 80)), masks.SHAPE, "88x80, its image 96x80"),
        (square().crop((12, 10, 84, 70)), masks.SHAPE, "72x60, its image 96x80"),
        (square(inside=0), masks.EMPTY, ""),
        (square(inside=0, outside=255), masks.INVERTED, "97 %"),
        (square(inside=2, outside=1), masks.INVERTED, "100 %"),
        (with_alpha(0), masks.ALPHA, ""),
        (with_alpha(255), masks.ALPHA, ""),
    ],
    ids=["transposed", "cut", "cropped", "empty", "inverted", "class 1", "alpha", "alpha on white"],
)
def test_faults(tmp_path, mask, fault, detail):
    found = check(tmp_path, mask)
    assert (found.fault, found.detail) == (fault, detail)


@pytest.mark.parametrize(
    ("orientations", "size", "fault"),
    [
        ((1, 1), (96, 80), None),
        ((3, 3), (96, 80), None),
        ((3, 1), (96, 80), masks.TURNED),
        ((1, 2), (96, 80), masks.TURNED),
        ((6, 6), (96, 80), None),
        ((6, 1), (80, 96), None),  # the mask has the shape of the image as it is shown
        ((6, 1), (96, 80), masks.SHAPE),
        ((1, 6), (96, 80), masks.SHAPE),
        ((6, 1), (96, 96), masks.TURNED),
    ],
)
def test_orientations(tmp_path, orientations, size, fault):
    """`size` is that of the image's file."""
    mask = square(size if size[0] == size[1] else (96, 80))
    assert check(tmp_path, mask, size, orientations).fault == fault


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


@pytest.mark.parametrize("place", ["eXIf after the pixels", "text"])
@pytest.mark.parametrize("size", [(72, 96), (300, 400)], ids=["small", "larger than its head"])
def test_exif_data_wherever_decoding_finds_them(tmp_path, place, size):
    """Of an image that is shown sideways, and of its mask."""
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes().removeprefix(b"Exif\0\0")

    def turned(picture: Image.Image, path: Path) -> Path:
        picture.save(path)
        data = path.read_bytes()
        if place == "text":
            text = b"\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"
            extra = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
            data = data[:33] + extra + data[33:]
        else:
            data = data[:-12] + chunk(b"eXIf", raw) + data[-12:]
        path.write_bytes(data)
        return path

    image = turned(Image.effect_noise(size, 80).convert("RGB"), tmp_path / "a.png")
    assert (image.stat().st_size > 2**16) == (size[0] == 300)
    shown = READER.load_original(row_of(image, "")).shape[1:]
    assert shown == size
    upright = saved(square(size[::-1]), tmp_path / "m.png")
    assert masks.check_mask(READER, row_of(image, upright)).fault is None
    same = turned(square(size), tmp_path / "n.png")
    assert masks.check_mask(READER, row_of(image, same)).fault is None


def test_masks_that_cannot_be_read_and_images_that_cannot(tmp_path):
    image = saved(Image.new("RGB", (96, 80)), tmp_path / "a.jpg")
    missing = masks.check_mask(READER, row_of(image, tmp_path / "none.png"))
    assert (missing.fault, missing.pixels) == (masks.NOT_READ, None)
    image.write_bytes(b"no image")
    mask = saved(square(), tmp_path / "m.png")
    assert masks.check_mask(READER, row_of(image, mask)).fault is None


def test_members_of_tar_files(tmp_path):
    """Only the head of the image is read."""
    image = saved(Image.effect_noise((900, 700), 80).convert("RGB"), tmp_path / "a.jpg")
    saved(square((700, 900)), tmp_path / "m.png")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(image, "a.jpg")
        tar.add(tmp_path / "m.png", "m.png")
    with tarfile.open(tmp_path / "x.tar") as tar:
        (a, m) = tar.getmembers()
    assert a.size > 2**16
    end = m.offset_data + m.size
    mask = f"{tmp_path}/x.tar#bytes={m.offset_data}-{end}"
    place = (a.offset_data, a.size, end)
    row = ImageRow("", f"{tmp_path}/x.tar", "a.jpg", *place, None, "a", "test", "spot", mask)
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[a.offset_data + 2**16 : a.offset_data + a.size] = bytes(a.size - 2**16)
    (tmp_path / "x.tar").write_bytes(data)
    found = masks.check_mask(READER, row)
    assert (found.fault, found.detail) == (masks.SHAPE, "700x900, its image 900x700")
