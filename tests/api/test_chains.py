"""Manifests that are written as changes: the same ids and rows as those that are written whole."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import padim_dist as padim
from padim_dist.api.pipeline.whole import make_whole
from padim_dist.api.settings.places import workspace_of
from padim_dist.config import Config, make_config
from padim_dist.errors import DamagedFileError
from padim_dist.store.manifests import read_manifest
from padim_dist.store.manifests.chain import Chain, DeltaFile

NIGHTS = 12


def write(path: Path, text: str, at: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def change(root: Path, night: int, rng: random.Random) -> None:
    """Add, replace and remove some files, and bring a mask for an image that has not changed."""
    there = sorted(root.rglob("test/*/*.png"))
    for path in rng.sample(there, 3):
        path.unlink()
    for path in rng.sample([path for path in there if path.exists()], 3):
        write(path, f"replaced in night {night}", night)
    for number in range(6):
        name = f"{rng.choice('abc')}/test/{rng.choice(['good', 'spot'])}/{night}-{number}.png"
        write(root / name, "new", night)
    defect = rng.choice(sorted(root.rglob("test/spot/*.png")))
    mask = defect.parents[2] / "ground_truth/spot" / f"{defect.stem}_mask.png"
    write(mask, "mask", night)


def config_of(root: Path, workspace: Path) -> Config:
    archive = {"url": str(root), "layout": "mvtec", "shard_images": 40, "group": "^(?P<group>.)/"}
    return make_config({"workspace": str(workspace), "archive": archive})


def rows(config: Config, snapshot: str) -> list[dict]:
    folder = Path(config.workspace) / "manifests" / snapshot
    return [
        row for path in sorted(folder.glob("part-*")) for row in pq.read_table(path).to_pylist()
    ]


def asked(config: Config) -> list[tuple]:
    columns = 'image_id, uri, size, etag, "group", split, label, mask_uri'
    return padim.connect(config).sql(f"SELECT {columns} FROM images ORDER BY uri").fetchall()


def written(config: Config) -> int:
    return sum(p.stat().st_size for p in Path(config.workspace).rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def nights(tmp_path_factory) -> tuple[Config, list[Config]]:
    """An archive that was indexed every night, and for each night one that was indexed at once."""
    tmp_path, rng = tmp_path_factory.mktemp("chains"), random.Random(0)
    root = tmp_path / "archive"
    for number in range(400):
        write(root / "abc"[number % 3] / "test/good" / f"{number:03d}.png", f"{number}", 1)
    write(root / "a/test/spot/0.png", "defect", 1)
    grown, once = config_of(root, tmp_path / "grown"), []
    for night in range(NIGHTS):
        if night:
            change(root, night, rng)
        padim.index(grown)
        once.append(config_of(root, tmp_path / f"once-{night}"))
        assert padim.index(once[-1]).snapshot == padim.history(grown).entries[-1].snapshot
        assert asked(grown) == asked(once[-1])
    return grown, once


def test_every_manifest_has_the_rows_of_one_that_was_written_whole(nights):
    grown, once = nights
    entries = padim.history(grown).entries
    heads = [
        json.loads(Path(grown.workspace, "manifests", e.snapshot, "manifest.json").read_text())
        for e in entries
    ]
    chains = [head.get("chain") for head in heads]
    assert chains[0] is None
    assert sum(chain is None for chain in chains[1:]) < 3, "a whole one is rare"
    assert max(len(chain["deltas"]) for chain in chains if chain) > 3
    for entry, alone in zip(reversed(entries), reversed(once), strict=True):
        manifest = read_manifest(workspace_of(grown), entry.snapshot)
        assert manifest is not None
        assert make_whole(grown, manifest).chain is None
        wanted = rows(alone, entry.snapshot)
        assert rows(grown, entry.snapshot) == wanted
        assert len(wanted) == entry.images
        again = read_manifest(workspace_of(grown), entry.snapshot)
        assert again is not None
        assert again.chain is None
    # The newest is whole now: its view has the numbers of the shards.
    newest = read_manifest(workspace_of(grown), entries[-1].snapshot)
    assert newest is not None
    found = padim.connect(grown).sql("SELECT shard, count(*) FROM images GROUP BY 1 ORDER BY 1")
    assert found.fetchall() == [(shard.shard, shard.images) for shard in newest.shards]


def test_a_night_writes_what_has_changed(tmp_path):
    root = tmp_path / "archive"
    for number in range(1500):
        write(root / "a/test/good" / f"{number:04d}.png", f"{number}", number)
    config = config_of(root, tmp_path / "audit")
    padim.index(config)
    whole, costs = written(config), []
    for night in range(3):
        write(root / "a/test/good" / f"new-{night}.png", "new", night)
        before = written(config)
        assert padim.index(config).new == 1
        costs.append(written(config) - before)
        before = written(config)
        padim.index(config)
        assert written(config) == before, "nothing has changed"
    # Most of it is the footers of three small Parquet files, whatever the size of the archive.
    assert max(costs) < whole / 4
    assert max(costs) < 20_000


def test_a_chain_that_lost_rows_is_not_made_whole(tmp_path):
    root = tmp_path / "archive"
    for number in range(60):
        write(root / "a/test/good" / f"{number}.png", f"{number}", 1)
    config = config_of(root, tmp_path / "audit")
    padim.index(config)
    write(root / "a/test/good/0.png", "replaced", 2)
    padim.index(config)
    manifest = read_manifest(workspace_of(config), padim.history(config).entries[-1].snapshot)
    assert manifest is not None
    assert manifest.chain is not None
    (delta,) = manifest.chain.deltas
    path = Path(config.workspace) / delta.path
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(DamagedFileError, match="has other rows than when it was indexed"):
        make_whole(config, manifest)
    path.unlink()
    with pytest.raises(
        DamagedFileError,
        match=rf"{path.name} is damaged: it is missing\. .*{manifest.snapshot} and run",
    ):
        make_whole(config, manifest)


def test_a_chain_without_its_beginning_is_written_again(tmp_path, caplog):
    root = tmp_path / "archive"
    for number in range(60):
        write(root / "a/test/good" / f"{number}.png", f"{number}", 1)
    config = config_of(root, tmp_path / "audit")
    first = padim.index(config).snapshot
    write(root / "a/test/good/0.png", "replaced", 2)
    padim.index(config)
    assert len(asked(config)) == 60
    base = Path(config.workspace) / "manifests" / first
    (base / "part-00000.parquet").rename(tmp_path / "away")
    with caplog.at_level("WARNING"):
        assert asked(config) == []
    assert "0 files with rows of 1; the view images is empty" in caplog.text
    shutil.rmtree(base)
    assert asked(config) == []
    newest = padim.history(config).entries[-1].snapshot
    manifest = read_manifest(workspace_of(config), newest)
    assert manifest is not None
    with pytest.raises(
        DamagedFileError, match=rf"it has 0 rows of 60. .*{newest} and run"
    ) as error:
        make_whole(config, manifest)
    assert first in error.value.file
    shutil.rmtree(Path(config.workspace) / "manifests" / newest)
    assert padim.index(config).snapshot == newest
    assert len(rows(config, newest)) == 60


def test_a_whole_manifest_is_due_after_a_quarter_of_changes_or_fifty_deltas():
    chain = Chain("a", 1000)
    assert chain.may_grow(250)
    assert not chain.may_grow(251)
    for number in range(50):
        assert chain.may_grow(5)
        chain = chain.with_delta(DeltaFile(f"manifests/b{number}/delta-0.parquet", 5))
    assert not chain.may_grow(0)
    assert chain.manifests == {"a", *(f"b{number}" for number in range(50))}
