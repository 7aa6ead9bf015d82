"""The projection holds: a worker uses at most the projected memory."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.api.settings import plans
from padim_dist.config import ClusterConfig
from padim_dist.config.identity import batch_images, identity
from padim_dist.engine.cluster.local import open_local, settle
from padim_dist.engine.factorise import band_cells, bands
from padim_dist.engine.memory import projection
from padim_dist.engine.memory.amounts import added_together, left_out_together
from padim_dist.engine.parts import deal_parts
from padim_dist.errors import ResourceError
from padim_dist.store.manifests import Shard
from tests.conftest import make_mvtec, tiny_config


def peak_memory() -> int:
    """Return the peak memory of this process in bytes (runs on the worker).

    getrusage is not used, since its value includes the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.slow
def test_a_worker_uses_at_most_the_projected_memory(tmp_path):
    """With the paper's sizes; and the projection is not far too high."""
    root = make_mvtec(tmp_path / "archive", groups=("a",), normal=20)
    with open_local(ClusterConfig(workers=1, memory="6GiB"), 1, None) as client:
        config = tiny_config(
            tmp_path,
            root,
            client.scheduler.address,
            model={"resize": 256, "crop": 224, "channels": 100, "batch": 16},
        )
        spec = plans.plan_embedding(config)
        weights = plans.state_bytes(plans.load_state(config, spec.trunk))
        rest = (weights, config.cluster.readers, 80 * 96)
        padim.fit(config)
        fitted = client.submit(peak_memory, pure=False).result(60)
        padim.score(config)
        scored = client.submit(peak_memory, pure=False).result(60)
    need = projection.fit_need(spec, *rest, config.fit.sample).total
    assert 0.4 * need < fitted <= need
    assert scored <= max(need, projection.score_need(spec, *rest, 4).total)


def test_too_little_memory_is_refused_with_the_numbers():
    need = projection.Need({"moments": 3 * 2**30, "libraries": 2**30})
    projection.check_memory("fit", need, 5 * 2**30, 2)
    with pytest.raises(ResourceError, match=r"4\.00 GiB \(moments 3.*cluster\.workers to 1"):
        projection.check_memory("fit", need, 3 * 2**30, 2)
    with pytest.raises(ResourceError, match="use a larger machine"):
        projection.check_memory("fit", need, 2**30, 2)
    projection.check_disk("fit", 10, None, "s3://bucket")
    with pytest.raises(ResourceError, match=r"up to 2\.00 GiB to /x, but 1\.00 GiB are free"):
        projection.check_disk("fit", 2 * 2**30, 2**30, "/x")


def test_workers_are_as_many_as_memory_holds(monkeypatch):
    """A machine with 16 GB and 8 cores runs three workers of 4 GB, and refuses eight."""
    monkeypatch.setattr("padim_dist.engine.cluster.local.MEMORY_LIMIT", 16 * 10**9)
    monkeypatch.setattr("padim_dist.engine.cluster.local.CPU_COUNT", 8)
    need = projection.Need({"all": 4 * 10**9})
    assert settle(ClusterConfig(), "fit", need).workers == 3
    assert settle(ClusterConfig(), "fit", projection.Need({"all": 10**9})).workers == 8
    with pytest.raises(ResourceError, match=r"set cluster\.workers to 3"):
        settle(ClusterConfig(workers=8), "fit", need)
    with pytest.raises(ResourceError, match="use a larger machine"):
        settle(ClusterConfig(), "fit", projection.Need({"all": 13 * 10**9}))


def shard(number: int, group: str | None, split: str = "train", images: int = 5) -> Shard:
    return Shard(number, group, split, images=images, bytes=100, digest=f"{number}")


def test_parts_are_consecutive_and_complete():
    shards = [shard(i, "a") for i in range(7)] + [shard(7, "a", "test"), shard(8, None)]
    shards += [shard(9, "b")]
    parts = deal_parts(shards, 3)
    assert [(p.group, p.part, tuple(s.shard for s in p.shards)) for p in parts] == [
        ("a", 0, (0, 1)),
        ("a", 1, (2, 3)),
        ("a", 2, (4, 5, 6)),
        ("b", 0, (9,)),
    ]


@pytest.mark.parametrize(
    ("groups", "shards", "images", "parts"),
    [
        (1, 7, 30, 4),  # 210 images: four workers can share them
        (1, 33, 32, 4),
        (1, 66, 32, 8),  # parts of 264 images
        (1, 100, 512, 32),
        (3, 4, 512, 4),  # a shard is never cut
        (50, 4, 100, 2),
        (50, 2, 50, 1),
    ],
)
def test_parts_are_as_many_as_are_worth_their_cost(groups, shards, images, parts):
    names = [f"g{i:02d}" for i in range(groups)]
    every = [shard(0, name, images=images) for name in names for _ in range(shards)]
    found = Counter(part.group for part in deal_parts(every, "auto"))
    assert set(found.values()) == {parts}
    assert sum(part.images for part in deal_parts(every, "auto")) == groups * shards * images


@pytest.mark.parametrize(
    ("side", "batch", "together", "added"),
    [(224, 32, 64, 32), (256, 32, 64, 32), (512, 8, 64, 8), (1024, 2, 51, 8), (2048, 1, 12, 8)],
)
def test_larger_pictures_are_fewer_together(tmp_path, side, batch, together, added):
    """And as many as ever up to 256 pixels, so that results and ids stay."""
    model = {"resize": side, "crop": side, "channels": 100, "batch": "auto"}
    config = tiny_config(tmp_path, tmp_path, None, model=model)
    assert identity(config.model)["batch"] == batch
    spec = plans.plan_embedding(config)
    assert (spec.batch, left_out_together(spec), added_together(spec)) == (batch, together, added)


def test_a_batch_that_is_set_is_that(tmp_path):
    model = {"resize": 2048, "crop": 2048, "batch": 3}
    assert batch_images(tiny_config(tmp_path, tmp_path, None, model=model).model) == 3


def test_bands_cover_the_cells(tmp_path):
    config = tiny_config(tmp_path, tmp_path, None, model={"resize": 256, "crop": 224})
    shape = plans.plan_embedding(config).shape
    cut = bands(shape)
    assert cut[0][0] == 0
    assert cut[-1][1] == shape.cells
    assert all(a[1] == b[0] for a, b in pairwise(cut))
    assert len(cut) >= 4
    assert cut[0][1] == band_cells(shape)
