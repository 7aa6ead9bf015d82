"""Parts of a fit: what is written is what is read, and moments come from either."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder
from padim_dist.store.arrays import create_uncompressed, open_zarr_group, put_attributes
from padim_dist.store.parts.moments import moments_arrays, read_band, write_moments
from padim_dist.store.parts.sample import SampleReader, SampleWriter, images_on_disk
from padim_dist.store.workspace import Workspace
from tests.core.oracle import random_maps

CPU = torch.device("cpu")
SHAPES = [
    PyramidShape(grids=((4, 6), (2, 3)), channels=(3, 5)),
    PyramidShape(grids=((3, 3),), channels=(4,)),
    PyramidShape(grids=((4, 6), (2, 3), (2, 3)), channels=(2, 3, 4), inside=(0, 9, 15)),
]
PATH = "moments/e/cam/p-1.zarr"


def embeddings(shape: PyramidShape, images: int) -> list[torch.Tensor]:
    return shape.nest(random_maps(shape, images, torch.Generator().manual_seed(images)))


def of(levels: list[torch.Tensor], places: list[int]) -> list[torch.Tensor]:
    return [level[..., places] for level in levels]


def write(
    workspace: Workspace,
    shape: PyramidShape,
    levels: list[torch.Tensor],
    wanted: list[int],
    batch: int,
    most: int,
) -> SampleWriter:
    writer = SampleWriter(workspace, PATH, shape, most, 2)
    images = levels[0].shape[-1]
    for first in range(0, images, batch):
        places = list(range(first, min(first + batch, images)))
        chosen = [k for k, place in enumerate(places) if place in wanted]
        writer.add([str(place) for place in places], of(levels, places), chosen)
    writer.close()
    return writer


@given(
    st.sampled_from(SHAPES),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(0, 5),
    st.data(),
)
def test_a_sample_is_read_as_it_was_embedded(shape, images, batch, more, data):
    """In batches of any size, also if fewer images can be read than were expected."""
    wanted = sorted(data.draw(st.sets(st.integers(0, images - 1), min_size=1)))
    levels = embeddings(shape, images)
    with TemporaryDirectory() as folder:
        workspace = Workspace(Folder(folder))
        writer = write(workspace, shape, levels, wanted, batch, len(wanted) + more)
        assert writer.is_finite
        reader = SampleReader(workspace, PATH, shape)
        assert reader.image_ids == [str(place) for place in wanted]
        asked = sorted(data.draw(st.sets(st.integers(0, len(wanted) - 1), min_size=1)))
        found = reader.read(asked)
        expected = of(levels, [wanted[i] for i in asked])
        assert len(found) == shape.levels
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert all(level.is_contiguous() for level in found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("images", [1, 32, 75])
def test_moments_are_made_from_all_embeddings(tmp_path: Path, shape, images):
    """Band by band they are those of float64, as the moments that another part has written are."""
    workspace, levels = Workspace(Folder(str(tmp_path))), embeddings(shape, images)
    write(workspace, shape, levels, list(range(images)), 8, images)
    written = Moments.zeros(shape)
    for first in range(0, images, 32):
        written.update(of(levels, list(range(first, min(first + 32, images)))))
    write_moments(workspace, "moments/e/cam/q-1.zarr", written, shape, 2)
    last = shape.levels - 1
    cells = [*range(0, shape.cells, 2), shape.cells]
    for band in pairwise(cells):
        made, read = (
            read_band(workspace, path, shape, band, 32, CPU)
            for path in (PATH, "moments/e/cam/q-1.zarr")
        )
        assert made.count == read.count == images
        rows = [slice(*(shape.ratio(a, last) * cell for cell in band)) for a in range(shape.levels)]
        some = [level[rows[a]].double() for a, level in enumerate(levels)]
        centred = [x - x.mean(dim=-1, keepdim=True) for x in some]
        for a, b in shape.pairs:
            fine = centred[a].reshape(len(centred[b]), -1, images)
            exact = torch.bmm(fine, centred[b].mT)
            for found in (made, read):
                torch.testing.assert_close(found.mean[a], some[a].mean(dim=-1), rtol=0, atol=1e-6)
                torch.testing.assert_close(
                    found.scatter[a, b], exact, rtol=1e-5, atol=1e-6 * images
                )


def test_parts_of_version_0_5_are_read(tmp_path: Path):
    """They have an array for each mean and block, and for each level of the embeddings."""
    shape, workspace = SHAPES[0], Workspace(Folder(str(tmp_path)))
    levels = embeddings(shape, 20)
    written = Moments.zeros(shape)
    written.update(levels)
    part = open_zarr_group(workspace, PATH, "w")
    put_attributes(part, {"count": 20})
    sample = part.create_group("sample")
    put_attributes(sample, {"image_ids": [str(i) for i in range(20)]})
    arrays = [(part, name, data) for name, _, data in moments_arrays(written)]
    arrays += [(sample, f"level_{a}", x.permute(2, 0, 1)) for a, x in enumerate(levels)]
    for group, name, data in arrays:
        size, rows = tuple(data.shape), 2
        shard = (-(-len(data) // rows) * rows, *size[1:])
        array = create_uncompressed(group, name, size, data.numpy().dtype, (rows, *size[1:]), shard)
        array[...] = data.numpy()
    assert_equal(read_band(workspace, PATH, shape, (0, shape.cells), 32, CPU), written)
    reader = SampleReader(workspace, PATH, shape)
    assert reader.image_ids[19] == "19"
    found, expected = reader.read([2, 3, 17]), of(levels, [2, 3, 17])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def assert_equal(found: Moments, expected: Moments) -> None:
    assert found.count == expected.count
    pairs = zip(moments_arrays(found), moments_arrays(expected), strict=True)
    assert all(a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in pairs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("band_cells", [1, 2, 5, 100])
def test_moments_are_read_as_they_were_written(tmp_path: Path, shape, band_cells):
    """Band by band, with an object for each band."""
    workspace, written = Workspace(Folder(str(tmp_path))), Moments.zeros(shape)
    written.update(embeddings(shape, 9))
    write_moments(workspace, PATH, written, shape, band_cells)
    whole = read_band(workspace, PATH, shape, (0, shape.cells), 32, CPU)
    assert_equal(whole, written)
    # Products of strided matrices have other last bits.
    assert all(data.is_contiguous() for _, _, data in moments_arrays(whole))
    cells = [*range(0, shape.cells, band_cells), shape.cells]
    bands = [read_band(workspace, PATH, shape, band, 32, CPU) for band in pairwise(cells)]
    for number, (name, _, data) in enumerate(moments_arrays(written)):
        joined = torch.cat([moments_arrays(band)[number][2] for band in bands])
        assert torch.equal(joined, data), name
    assert len([path for path in tmp_path.rglob("c/**/*") if path.is_file()]) == len(bands)


def test_a_sample_says_that_embeddings_are_not_finite(tmp_path: Path):
    shape, levels = SHAPES[0], embeddings(SHAPES[0], 40)
    levels[1][0, 0, 35] = torch.inf
    writer = write(Workspace(Folder(str(tmp_path))), shape, levels, list(range(40)), 8, 40)
    assert not writer.is_finite


def test_a_part_with_neither_is_damaged(tmp_path: Path):
    """It was copied without its embeddings; without them a model would lack its images."""
    shape, workspace = SHAPES[0], Workspace(Folder(str(tmp_path)))
    write(workspace, shape, embeddings(shape, 5), list(range(5)), 4, 5)
    workspace.folder.remove_tree(f"{PATH}/sample")
    with pytest.raises(DamagedFileError, match=r"neither moments nor embeddings\. Remove "):
        read_band(workspace, PATH, shape, (0, 2), 32, CPU)


@pytest.mark.parametrize("images", [1, 16, 17, 32, 40])
def test_a_sample_takes_as_much_room_as_is_projected(tmp_path: Path, images):
    shape, workspace = SHAPES[0], Workspace(Folder(str(tmp_path)))
    write(workspace, shape, embeddings(shape, images), list(range(images)), 8, images)
    size = sum(path.stat().st_size for path in tmp_path.rglob("c/*/*/*"))
    projected = 4 * images_on_disk(images) * sum(shape.sizes)
    assert projected <= size < projected + 400


def test_a_part_without_images_has_no_files(tmp_path: Path):
    writer = SampleWriter(Workspace(Folder(str(tmp_path))), PATH, SHAPES[0], 3, 2)
    writer.close()
    assert not list(tmp_path.iterdir())
