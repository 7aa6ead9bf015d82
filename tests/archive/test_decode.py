"""Decoding of valid and broken image files, compared with Pillow."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from padim_dist.archive.reading.decode import decode, decode_mask
from padim_dist.archive.reading.transform import prepare, prepare_mask
from padim_dist.core.geometry import InputGeometry
from padim_dist.errors import ImageError
from padim_dist.synthetic.archive import _png_of_claimed_size
from tests.archive.corpus import with_odd_tag

LIMIT = 10**7
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged tags


def picture(mode: str = "RGB", size: tuple[int, int] = (61, 47)) -> Image.Image:
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


CASES = [
    *[("JPEG", mode, {}) for mode in ("RGB", "L", "CMYK")],
    ("JPEG", "RGB", {"progressive": True}),
    *[("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")],
    *[("TIFF", mode, {}) for mode in ("RGB", "L", "CMYK", "1")],
    *[("TIFF", "RGB", {"compression": how}) for how in ("tiff_lzw", "tiff_deflate", "jpeg")],
    *[("TIFF", "1", {"compression": how}) for how in ("group3", "group4", "tiff_ccitt")],
    *[("TIFF", mode, {"compression": "tiff_lzw"}) for mode in ("L", "P", "RGBA", "CMYK")],
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("BMP", "RGB", {}),
    ("BMP", "L", {}),
]


@pytest.mark.parametrize(("kind", "mode", "options"), CASES)
def test_formats_and_modes_equal_pillow(kind, mode, options):
    data = encode(picture(mode), kind, **options)
    found = decode(data, LIMIT).permute(1, 2, 0).numpy().astype(int)
    # Both use libjpeg; rounding of the colour transform may differ by a grey level.
    assert np.abs(found - by_pillow(data)).max() <= (1 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(), kind, exif=exif)
    found = decode(data, LIMIT).permute(1, 2, 0).numpy().astype(int)
    wanted = by_pillow(data)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight_by_rounding(kind):
    wide = np.linspace(0, 65535, 61 * 47).reshape(47, 61).astype(np.uint16)
    found = decode(encode(Image.fromarray(wide), kind), LIMIT)
    wanted = np.round(wide / 257).astype(np.uint8)
    assert torch.equal(found[0], found[2])
    np.testing.assert_array_equal(found[0].numpy(), wanted)


def test_a_wrong_suffix_is_accepted_and_an_unknown_format_refused():
    assert decode(encode(picture(), "PNG"), LIMIT).shape == (3, 47, 61)
    with pytest.raises(ImageError, match="unsupported: GIF; JPEG, PNG, TIFF, WebP"):
        decode(encode(picture("P"), "GIF"), LIMIT)


def _corrupt_png() -> bytes:
    data = bytearray(encode(picture(), "PNG"))
    data[60:90] = bytes(30)
    return bytes(data)


BROKEN = {
    "empty": (b"", "the file is empty"),
    "web page": (b"<!doctype html><title>404</title>", "not an image: it is a web page"),
    "text": (b"hello", "not an image: it is text"),
    "cut jpeg": (encode(picture(), "JPEG")[:900], "damaged JPEG"),
    "jpeg header alone": (encode(picture(), "JPEG")[:20], "damaged JPEG"),
    "cut png": (encode(picture(), "PNG")[:700], "damaged PNG"),
    "png without pixels": (encode(picture(), "PNG")[:33], "damaged"),
    "corrupt png": (_corrupt_png(), "damaged PNG"),
    "cut tiff": (encode(picture(), "TIFF")[:600], "damaged"),
    "cut webp": (encode(picture(), "WEBP")[:200], "damaged"),
    "cut bmp": (encode(picture(), "BMP")[:400], "damaged BMP"),
    "32-bit float": (encode(picture("F"), "TIFF"), "no standard range"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_a_reason(name):
    data, reason = BROKEN[name]
    with pytest.raises(ImageError, match=reason) as caught:
        decode(data, LIMIT)
    assert caught.value.status == "unreadable"


def test_a_tag_of_a_wrong_type_is_an_error():
    """Pillow takes the offset of the pixels from a tag without a check of its type."""
    with pytest.raises(ImageError, match="damaged TIFF") as caught:
        decode(with_odd_tag(encode(picture(), "TIFF")), LIMIT)
    assert caught.value.status == "unreadable"


def test_a_picture_with_damaged_exif_is_still_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 300.0
    data = encode(picture(), "WEBP", exif=exif, lossless=True)
    rational = struct.pack(">HHI", 0x011A, 5, 1)
    assert data.count(rational) == 1
    spoiled = data.replace(rational, struct.pack(">HHI", 0x011A, 2, 1))  # text
    assert torch.equal(decode(spoiled, LIMIT), decode(data, LIMIT))
    assert decode(spoiled, LIMIT).shape == (3, 61, 47)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_turned(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.arange(0, 35 * 1800, 1800).reshape(5, 7).astype(np.uint16)
    found = decode(encode(Image.fromarray(wide), kind, exif=exif), LIMIT)
    np.testing.assert_array_equal(found[0].numpy(), np.rot90(np.round(wide / 257), -1))


def test_decompression_bombs_are_refused_from_their_header():
    with pytest.raises(ImageError, match=r"30000x30000 pixels are more than.*raise it") as caught:
        decode(_png_of_claimed_size(30_000, 30_000), LIMIT)
    assert caught.value.status == "too_large"


def test_forty_eight_megapixels_are_read_if_the_limit_is_raised():
    data = encode(Image.new("RGB", (8000, 6000), (40, 90, 160)), "JPEG")
    with pytest.raises(ImageError, match=r"8000x6000 pixels are more than archive\.max_pixels"):
        decode(data, 32_000_000)
    seen = prepare(decode(data, 48_000_000), InputGeometry((64, 64), (64, 64)))
    np.testing.assert_allclose(seen.float().mean(dim=(1, 2)), [40, 90, 160], atol=2)


def test_palettes_with_transparency():
    image = picture("P")
    data = encode(image, "PNG", transparency=bytes(range(200)))
    found = decode(data, LIMIT).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


def test_png_checksum_helper_is_a_real_png():
    """The bomb fails only for its size: a small file made in the same way is valid."""
    data = _png_of_claimed_size(8, 1)
    assert Image.open(io.BytesIO(data)).size == (8, 1)
    assert struct.unpack(">I", data[8:12]) == (13,)
    assert zlib.crc32(data[12:29]) == struct.unpack(">I", data[29:33])[0]


@pytest.mark.parametrize("size", [(900, 900), (300, 511), (256, 256), (90, 120), (33, 700)])
def test_transform_is_within_a_grey_level_of_pillow(size):
    image = picture(size=(size[1], size[0]))
    geometry = InputGeometry((256, 256), (224, 224))
    found = prepare(torch.from_numpy(np.array(image)).permute(2, 0, 1), geometry)
    resized = image.resize((256, 256), Image.Resampling.BICUBIC)
    wanted = np.asarray(resized.crop((16, 16, 240, 240))).astype(int)
    difference = np.abs(found.permute(1, 2, 0).numpy().astype(int) - wanted)
    # Both round between the two passes: one value in 10,000 may differ by two levels.
    assert difference.max() <= 2
    assert (difference > 1).mean() <= 1e-4


def test_masks_follow_the_images():
    mask = np.zeros((100, 200), np.uint8)
    mask[50:, 100:] = 1  # any value except zero
    found = decode_mask(encode(Image.fromarray(mask), "PNG"), LIMIT)
    assert found.dtype == torch.bool
    assert decode_mask(encode(Image.fromarray(mask.astype(np.uint16)), "PNG"), LIMIT).equal(found)
    small = prepare_mask(found, InputGeometry((64, 64), (48, 48)))
    assert small[24:, 24:].all()
    assert small.sum() == 24 * 24
