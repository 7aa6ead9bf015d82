"""Forms of image files that archives hold: right, or refused with a reason that names what."""

from __future__ import annotations

import io
import struct
import zlib
from itertools import islice

import numpy as np
import pytest
import tifffile
import torch
import torchvision
from PIL import Image

from padim_dist.archive.reading.decode import decode, decode_mask
from padim_dist.archive.reading.formats import jpeg
from padim_dist.archive.reading.formats.jpeg_head import find_head
from padim_dist.errors import ImageError
from tests.archive import tiff_matrix
from tests.archive.mutations import mutate
from tests.archive.test_decode import LIMIT, encode, picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))
EIGHT = np.round(RAMP * 255)


def tiff(values: np.ndarray, most: int, dtype: type = np.uint16, **options: object) -> bytes:
    sink = io.BytesIO()
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(sink, (values * most).round().astype(dtype), metadata=None, **options)
    return sink.getvalue()


def png(image: Image.Image, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a PNG file with chunks before and after its pixels."""
    data = encode(image, "PNG")
    return data[:33] + before + data[33:-12] + after + data[-12:]


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    found = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", found)


def reason_of(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, LIMIT)
    assert caught.value.status == "unreadable"
    return caught.value.reason


def test_no_form_of_tiff_is_silently_wrong():
    """One in 97 forms; `python -m tests.archive.tiff_matrix` reads all of them."""
    verdicts = [tiff_matrix.judge(form) for form in islice(tiff_matrix.forms(), 0, None, 97)]
    found = [verdict for verdict in verdicts if verdict]
    assert found.count("right") > 30
    assert all(
        verdict in ("right", tiff_matrix.OTHERWISE) or verdict.startswith("unsupported: TIFF")
        for verdict in found
    )


@pytest.mark.parametrize(
    ("data", "off"),
    [
        (tiff(RAMP, 4095, bitspersample=12), 0),
        (tiff(1 - RAMP, 65535, photometric="miniswhite"), 0),
        (tiff(1 - RAMP, 1, np.uint8, photometric="miniswhite", bitspersample=1), 128),
        (
            tiff(
                RAMP,
                255,
                np.uint8,
                photometric="palette",
                colormap=np.tile(np.arange(256, dtype=np.uint16), (3, 1)),
            ),
            0,
        ),
        (
            tiff(
                np.stack([RAMP / 2, RAMP * 0 + 0.5], -1),
                255,
                np.uint8,
                planarconfig="contig",
                extrasamples=["assocalpha"],
            ),
            2,
        ),
        (tiff(RAMP, 65535, bigtiff=True, byteorder=">", rowsperstrip=5), 0),
    ],
    ids=["12 bits", "white is zero", "1 bit", "palette of 8 bits", "opacity", "BigTIFF"],
)
def test_a_ramp_is_a_ramp(data, off):
    found = decode(data, LIMIT).numpy().astype(int)
    assert np.abs(found - EIGHT).max() <= off
    assert (np.diff(found[0, 0]) >= 0).all()


def test_planes_are_channels():
    planes = np.stack([RAMP, 1 - RAMP, RAMP * 0])
    for rows in (48, 5):
        data = tiff(planes, 65535, photometric="rgb", planarconfig="separate", rowsperstrip=rows)
        found = decode(data, LIMIT).numpy().astype(int)
        assert np.abs(found - np.round(planes * 255)).max() <= 1


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tiff(RAMP, 32767, np.int16), "16-bit signed samples have no standard range"),
        (tiff(RAMP, 1, np.float32), "32-bit float samples have no standard range"),
        (tiff(RAMP, 255, np.uint8, compression="png"), "compression PNG"),
        (tiff(np.stack([RAMP] * 5, -1), 255, np.uint8, planarconfig="contig"), "4 other samples"),
        (encode(picture("P"), "GIF"), "GIF; JPEG, PNG"),
    ],
)
def test_what_is_not_read_is_named(data, what):
    reason = reason_of(data)
    assert reason.startswith("unsupported: ")
    assert what in reason


def test_tags_that_claim_much_take_no_memory():
    """The size is compared with the limit, and samples with the bytes that a pixel may have."""
    data = bytearray(tiff(RAMP, 255, np.uint8))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        places = {tag.code: tag.valueoffset for tag in file.pages[0].tags}
    many = bytes(data)
    for code in (256, 257):
        struct.pack_into("<H", data, places[code], 60_000)
    with pytest.raises(ImageError, match="too_large: 60000x60000 pixels"):
        decode(bytes(data), LIMIT)
    broken = bytearray(many)
    struct.pack_into("<I", broken, places[273], 10**6)
    assert "is not in the file" in reason_of(bytes(broken))
    cut = tiff(RAMP, 255, np.uint8, rowsperstrip=8)[:-300]
    assert reason_of(cut).startswith("damaged TIFF")


def test_the_bits_of_a_camera():
    """12 bits in files of 16: 4095 becomes white, larger values too; other files do not change."""
    levels = np.round(RAMP * 4095).astype(np.uint16)
    rgb = np.stack([levels, levels[:, ::-1], levels], -1)
    grey_png = encode(Image.fromarray(levels), "PNG")
    for data in (grey_png, tiff(RAMP, 4095), tiff(RAMP, 4095, byteorder=">", compression="zlib")):
        assert decode(data, LIMIT).max() == 16
        assert np.array_equal(decode(data, LIMIT, 12)[1], EIGHT)
        assert decode(data, LIMIT, 10).max() == 255
    inverted = tiff(1 - RAMP, 4095, photometric="miniswhite")
    assert np.array_equal(decode(inverted, LIMIT, 12)[0], EIGHT)
    for depth, colours in ((2, rgb), (6, np.dstack([rgb, levels])), (4, np.dstack([levels] * 2))):
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
        head = struct.pack(">IIBBBBB", 64, 48, 16, depth, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
        data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        assert decode(data, LIMIT).max() <= 16
        found = decode(data, LIMIT, 12).numpy()
        assert np.array_equal(found[0], EIGHT)
        assert np.array_equal(found[1], EIGHT if depth == 4 else EIGHT[:, ::-1])
    for kind in ("JPEG", "PNG", "TIFF", "BMP"):
        data = encode(picture(), kind)
        assert torch.equal(decode(data, LIMIT, 12), decode(data, LIMIT))
    assert decode_mask(tiff(RAMP, 1), LIMIT).any()


LONG = zlib.compress(bytes(2_000_000))
METADATA = {
    "long text": png(picture(), chunk(b"zTXt", b"a\0\0" + LONG)),
    "long text after the pixels": png(picture(), after=chunk(b"zTXt", b"a\0\0" + LONG)),
    "long profile": png(picture(), chunk(b"iCCP", b"a\0\0" + LONG)),
    "wrong checksum of text": png(picture(), chunk(b"tEXt", b"a\0hello", 0)),
    "damaged EXIF in PNG": png(picture(), chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
    "unknown chunk": png(picture(), chunk(b"abCd", b"x", 7)),
    "WebP cut in its EXIF": encode(picture(), "WEBP", exif=b"Exif\0\0" + bytes(99), lossless=True)[
        :-40
    ],
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_cost_no_picture(name):
    assert torch.equal(decode(METADATA[name], LIMIT), decode(encode(picture(), "PNG"), LIMIT))


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE0, b"JFIF"),
        (0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0II*\0\x08\0\0\0"),
        (0xED, b"Photoshop 3.0\x008BIM"),
    ],
)
def test_damaged_application_data_cost_no_jpeg(marker, content):
    whole = encode(picture(), "JPEG")
    part = struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
    assert torch.equal(decode(whole[:2] + part + whole[2:], LIMIT), decode(whole, LIMIT))


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def test_xmp_turns_no_picture():
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    whole = encode(picture(), "JPEG")
    files = [
        png(picture(), text),
        whole[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + whole[2:],
        encode(picture(), "WEBP", xmp=XMP),
        tiff(RAMP, 255, np.uint8, extratags=[(700, 1, len(XMP), XMP, True)]),
    ]
    sizes = [(3, 47, 61)] * 3 + [(3, 48, 64)]
    assert [decode(data, LIMIT).shape for data in files] == sizes


def test_exif_as_text_in_png_counts():
    """Older writers put it there."""
    exif = Image.Exif()
    exif[0x0112] = 6
    digits = exif.tobytes().hex().encode()
    text = b"\nexif\n%8d\n%s\n" % (len(digits) // 2, digits)
    plain = chunk(b"tEXt", b"Raw profile type exif\0" + text)
    packed = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    for part in (plain, packed):
        assert decode(png(picture(), part), LIMIT).shape == (3, 61, 47)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"quality": 98}]
)
def test_a_jpeg_that_lacks_only_its_end_is_whole(options):
    """And one that is cut anywhere before is damaged."""
    whole = encode(picture(), "JPEG", **options)
    wanted = decode(whole, LIMIT)
    for data in (whole[:-1], whole[:-2]):
        assert torch.equal(decode(data, LIMIT), wanted)
    scan = whole.index(b"\xff\xda")
    ends = [place for place in range(scan, len(whole)) if whole[place : place + 1] == b"\xff"]
    for stop in (*range(scan, len(whole) - 3, 41), *ends[:-1]):
        assert reason_of(whole[:stop]).startswith("damaged JPEG"), stop
    assert reason_of(whole[: len(whole) // 2] + bytes(3000)).startswith("damaged JPEG")


def test_libjpeg_decodes_an_ordinary_file_that_it_refuses_once(monkeypatch):
    calls, whole = [], encode(picture(), "JPEG")
    tables = whole.index(b"\xff\xc4")
    refused = whole[: tables + 5] + b"\xff" + whole[tables + 6 :]
    assert find_head(refused) is not None

    def decode_jpeg(*given: object, **options: object) -> torch.Tensor:
        calls.append(given)
        return torchvision.io.decode_jpeg(*given, **options)

    monkeypatch.setattr(jpeg, "decode_jpeg", decode_jpeg)
    assert "damaged JPEG" in reason_of(refused)
    assert len(calls) == 1


def test_a_jpeg_of_very_many_scans_is_refused():
    whole = encode(picture(), "JPEG", progressive=True)
    again = whole[whole.rindex(b"\xff\xda") : -2]
    assert decode(whole[:-2] + again * 20 + whole[-2:], LIMIT).shape == (3, 47, 61)
    many = whole[:-2] + again * jpeg.MOST_SCANS + whole[-2:]
    assert reason_of(many) == "unsupported: JPEG with 110 scans; more than 100 may take minutes"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%PDF-1.7 ...", "a PDF file"),
        (b"PK\x03\x04...", "a zip archive"),
        (b"\0" * 4096, "a file of zero bytes alone"),
        (b"password=hunter2\n", "text"),
        (b"\x80\x04hunter2", "the first bytes of no known image format"),
    ],
)
def test_a_file_that_is_no_image_is_named_and_not_quoted(data, what):
    reason = reason_of(data)
    assert reason.startswith("not an image: it ")
    assert reason.endswith(what)
    assert "hunter2" not in reason


def test_mutated_files_give_pixels_or_a_reason():
    """Here, in this process; `python -m tests.archive.mutations` decodes 10,000."""
    outcomes = [outcome(mutate(number)[1]) for number in range(0, 10_000, 49)]
    assert {*outcomes} == {"pixels", "unreadable", "too_large"}
    assert outcomes.count("pixels") > 30


def outcome(data: bytes) -> str:
    try:
        assert decode(data, 10**6).dtype == torch.uint8
    except ImageError as error:
        return error.status
    return "pixels"
