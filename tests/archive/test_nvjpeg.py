"""JPEG files that are decoded on the device: on a CPU by libjpeg, with the same results.

nvJPEG itself needs a GPU: `benchmarks/gpu.py` compares the two decoders.
"""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from PIL import Image

from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.decode import size_if_plain
from padim_dist.errors import RunError
from tests.archive.corpus import draw_corpus, encode, picture
from tests.archive.rows import image_row
from tests.archive.test_reader import READER

WAITING = dataclasses.replace(READER, jpeg_device="cpu")
READING = Reading(WAITING, requests=4, decoders=2)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_corpus_of_damaged_files_has_the_same_outcomes(tmp_path):
    rows = [image_row(specimen.path) for specimen in draw_corpus(tmp_path / "corpus", 300)]
    wanted = [READER.load(each) for each in rows]
    found = []
    ahead = list(read_ahead(rows, READING, 16))
    assert sum(image.encoded is not None for image in ahead) > 15
    for start in range(0, len(ahead), 16):
        found += WAITING.finish(ahead[start : start + 16])
    for image, other in zip(found, wanted, strict=True):
        assert (image.status, image.error) == (other.status, other.error)
        assert (image.width, image.height) == (other.width, other.height)
        assert image.encoded is None
        assert image.is_usable == (other.pixels is not None)
        if other.pixels is not None:
            assert torch.equal(image.pixels, other.pixels)


@pytest.mark.parametrize(
    ("mode", "options", "plain"),
    [
        ("RGB", {}, True),
        ("RGB", {"subsampling": 2}, True),
        ("RGB", {"progressive": True}, False),
        ("L", {}, False),
        ("CMYK", {}, False),
    ],
)
def test_only_plain_jpeg_files_can_wait(mode, options, plain):
    data = encode(picture(random.Random(1)).convert(mode), "jpg", **options)
    assert (size_if_plain(data, 10**6) is not None) == plain
    assert size_if_plain(data[:-2], 10**6) is None


def test_turned_images_cannot_wait():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture(random.Random(1)), "jpg", exif=exif)
    assert size_if_plain(data, 10**6) is None


def test_waiting_bytes_count_against_the_budget(tmp_path):
    data = encode(picture(random.Random(1)), "jpg")
    (tmp_path / "a.jpg").write_bytes(data)
    size = len(data)
    rows = [image_row(tmp_path / "a.jpg", size) for _ in range(20)]
    taken = 0
    asked = iter(rows)

    def counted():
        nonlocal taken
        for each in asked:
            taken += 1
            yield each

    images = read_ahead(counted(), READING, depth=20, budget=3 * size)
    next(images)
    assert taken <= 5
    assert len(list(images)) == 19


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a worker without a GPU")
def test_a_worker_without_a_gpu_is_named():
    reader = dataclasses.replace(READER, jpeg_device="cuda")
    with pytest.raises(RunError, match=r"model\.jpeg is 'nvjpeg', but a worker has no GPU"):
        reader.finish([])
