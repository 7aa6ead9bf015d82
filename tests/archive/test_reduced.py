"""`model.jpeg: reduced`, and the head of JPEG files that is read once."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from padim_dist.archive.reading.decode import decode, decode_for
from padim_dist.archive.reading.formats import jpeg
from padim_dist.archive.reading.formats.jpeg_head import find_head
from padim_dist.archive.reading.transform import prepare
from padim_dist.core.geometry import InputGeometry
from padim_dist.errors import ImageError
from tests.archive.corpus import encode, picture
from tests.archive.rows import image_row
from tests.archive.test_reader import READER

GEOMETRY = InputGeometry((64, 48), (64, 48))


def smooth(width: int, height: int) -> Image.Image:
    """Return a picture without fine detail, on which all good filters agree."""
    small = picture(random.Random(3), size=(9, 7))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((96, 128), (64, 48)),
        ((94, 200), (200, 94)),  # a half would be too narrow
        ((193, 264), (264, 193)),  # no half has whole pixels
        ((202, 260), (130, 101)),
        ((200, 512), (128, 50)),
        ((1000, 1000), (125, 125)),
    ],
)
def test_the_size_is_the_smallest_that_the_resize_does_not_enlarge(size, decoded):
    data = encode(smooth(*size), "jpg", quality=95)
    found = decode_for(data, 10**6, least=GEOMETRY.resize)
    assert tuple(found.pixels.shape[1:]) == decoded
    assert (found.width, found.height) == size
    whole = decode(data, 10**6)
    if tuple(whole.shape[1:]) == decoded:
        assert torch.equal(found.pixels, whole)
    far = prepare(found.pixels, GEOMETRY).int() - prepare(whole, GEOMETRY).int()
    assert far.abs().float().mean() < 1
    assert far.abs().max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_files_are_upright_with_the_size_of_the_whole(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth(260, 188), "jpg", exif=exif)
    found, whole = decode_for(data, 10**6, least=(64, 64)), decode_for(data, 10**6)
    assert (found.width, found.height) == (whole.width, whole.height)
    assert found.form == whole.form
    height, width = whole.pixels.shape[1:]
    assert tuple(found.pixels.shape[1:]) == (height // 2, width // 2)
    geometry = InputGeometry((64, 64), (64, 64))
    far = prepare(found.pixels, geometry).int() - prepare(whole.pixels, geometry).int()
    assert far.abs().float().mean() < 1


def test_places_are_those_of_the_original(tmp_path):
    smooth(800, 600).save(tmp_path / "a.jpg")
    reader = replace(READER, geometry=GEOMETRY, reduces=True)
    image = reader.load(image_row(tmp_path / "a.jpg"))
    assert (image.width, image.height, image.form.width) == (800, 600, 800)
    assert image.pixels.shape == (3, 64, 48)


def test_damaged_and_other_files_have_the_same_outcome():
    whole = encode(smooth(200, 200), "jpg")
    others = [
        encode(smooth(200, 200), "png"),
        encode(smooth(200, 200), "jpg", progressive=True),
        encode(smooth(200, 200).convert("CMYK"), "jpg"),
        whole[:-2],
        whole[:-400],
    ]
    for data in others:
        outcomes = []
        for least in (None, (64, 64)):
            try:
                outcomes.append(decode_for(data, 10**6, least=least).pixels)
            except ImageError as error:
                outcomes.append(str(error))
        first, second = outcomes
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    with pytest.raises(ImageError, match="too_large"):
        decode_for(whole, 200 * 200 - 1, least=(64, 64))


@pytest.mark.parametrize(
    ("mode", "options", "is_ordinary"),
    [
        ("RGB", {}, True),
        ("RGB", {"subsampling": 2, "icc_profile": bytes(300), "comment": b"a comment"}, True),
        ("L", {"restart_marker_blocks": 4}, True),
        ("RGB", {"progressive": True}, False),
        ("CMYK", {}, False),
    ],
)
def test_only_ordinary_files_have_a_head(mode, options, is_ordinary):
    data = encode(smooth(60, 50).convert(mode), "jpg", **options)
    head = find_head(data)
    assert (head is not None) == is_ordinary
    if head:
        image = jpeg.open_jpeg(data, 10**6)
        assert (head.width, head.height) == image.size
        assert head.components == len(image.getbands())
        assert np.array_equal(jpeg.read_jpeg(data, 10**6, head), jpeg.read_jpeg(data, 10**6, None))
    for stop in range(0, len(data) // 3, 7):
        cut = find_head(data[:stop])
        assert cut is None or cut == head
    garbage = data[:20] + b"\0\0" + data[20:]
    assert find_head(garbage) is None
