"""Fits and scores with a trunk that OpenVINO runs: what is kept, found again and the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.api.pipeline.engines.networks import network_id
from padim_dist.api.pipeline.fit_plan import plan_fit
from padim_dist.api.settings import plans
from padim_dist.api.settings.places import workspace_of
from padim_dist.config import ClusterConfig
from padim_dist.core.engines import packages
from padim_dist.engine.cluster.local import open_local
from padim_dist.errors import ArchiveError, ConfigError
from padim_dist.events import Progress, ignore
from padim_dist.store.models import find_model
from padim_dist.store.weights import kept_weights
from tests.conftest import draw, make_mvtec, tiny_config

INT8 = {"engine": "openvino", "precision": "int8"}


def weights_of(config) -> str:
    return plan_fit(config, ignore, None).embedding.weights


def test_a_network_is_found_once_for_an_archive(tmp_path):
    """Other images, other parts and another rule make no other network; other settings do."""
    root = make_mvtec(tmp_path / "archive", groups=("a", "b"))
    (root / "a/train/good/broken.jpg").write_bytes(b"no image")
    config = tiny_config(tmp_path, root, None, model=INT8)
    heard: list[object] = []
    plan = plan_fit(config, heard.append, None)
    assert {e.stage for e in heard if isinstance(e, Progress)} >= {"fit: network"}
    (record,) = (tmp_path / "audit/networks").iterdir()
    said = json.loads(record.read_text())
    assert said["weights"] == plan.embedding.weights
    assert len(said["images"]) == 20  # all that can be read
    assert said["versions"].keys() == {"torch", "openvino", "nncf"}
    kept = kept_weights(plan.workspace, plan.embedding.weights)
    assert kept.keys() == {"network.xml", "network.bin"}
    assert {job.embedding.weights for job in plan.jobs} == {plan.embedding.weights}
    # Neither new images nor other parts make another network; another seed would.
    draw(root / "a/train/good/new.jpg", seed=900)
    more = tiny_config(tmp_path, root, None, model=INT8, fit={"parts": 2})
    assert weights_of(more) == said["weights"]
    seeded = tiny_config(tmp_path, root, None, model={**INT8, "seed": 7})
    state = plans.load_state(config, plan.embedding.trunk)
    ids = {network_id(one, plan.embedding, state) for one in (config, more, seeded)}
    assert ids == {record.stem, network_id(seeded, plan.embedding, state)}
    assert len(ids) == 2


def test_float32_and_bfloat16_share_a_network_that_no_image_is_read_for(tmp_path):
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, root, None, model={"engine": "openvino"})
    plan = plan_fit(config, ignore, None)
    half = tiny_config(tmp_path, root, None, model={"engine": "openvino", "precision": "bfloat16"})
    other = plan_fit(half, ignore, None)
    assert other.embedding.weights == plan.embedding.weights
    assert other.model_id != plan.model_id
    (record,) = (tmp_path / "audit/networks").iterdir()
    assert json.loads(record.read_text())["images"] == {}
    # A record that is damaged, or whose network is gone, is made again.
    record.write_text("{")
    assert weights_of(config) == plan.embedding.weights
    Path(tmp_path / f"audit/weights/{plan.embedding.weights}.pt").unlink()
    assert weights_of(config) == plan.embedding.weights
    assert kept_weights(workspace_of(config), plan.embedding.weights)


def test_a_sample_without_an_image_is_refused(tmp_path):
    root = make_mvtec(tmp_path / "archive", groups=("a",), normal=2)
    for path in (root / "a/train/good").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ArchiveError, match=r"none of 2 can; the first: .*model\.precision"):
        plan_fit(tiny_config(tmp_path, root, None, model=INT8), ignore, None)


def test_a_model_of_pytorch_is_what_it_was(tmp_path):
    """Neither its embedding nor its settings name an engine, so that its ids stay."""
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    plan = plan_fit(tiny_config(tmp_path, root, None), ignore, None)
    assert "engine" not in plan.embedding.to_dict()
    assert not (tmp_path / "audit/networks").exists()


@pytest.mark.slow
def test_workers_run_the_network_with_the_same_bits(tmp_path, scheduler, monkeypatch):
    root = make_mvtec(tmp_path / "archive")
    config = tiny_config(tmp_path, root, scheduler, model=INT8)
    fitted = padim.fit(config)
    scored = padim.score(config)
    assert scored.statuses == {"scored": 36, "unreadable": 3}
    info = find_model(workspace_of(config), fitted.model_id)
    assert info is not None
    assert info.embedding.engine == "openvino"
    assert "openvino" in info.versions
    assert padim.verify(config, run=scored.run_id, all_shards=True).verdict == "as it was written"
    found = {one.check: one for one in padim.doctor(config).findings}
    assert found["arithmetic"].found.startswith(("int8 by ", "the workers' processors have no "))
    with open_local(ClusterConfig(workers=1, memory="4GiB"), 1, None) as client:
        alone = tiny_config(tmp_path / "alone", root, client.scheduler.address, model=INT8)
        assert padim.fit(alone).model_id == fitted.model_id
        padim.score(alone)
    rows = [
        sorted(padim.open_scores(one).project("uri, score").fetchall(), key=str)
        for one in (config, alone)
    ]
    assert rows[0] == rows[1]
    assert len({score for _, score in rows[0] if score is not None}) == 36
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs the package openvino.*padim-dist\[openvino\]"):
        padim.score(
            config.model_copy(
                update={"score": config.score.model_copy(update={"pixel_alpha": 0.01})}
            )
        )
