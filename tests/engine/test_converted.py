"""Fits and scores with a trunk that OpenVINO runs: what is kept, found again and the same."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.api.arithmetic import conversion_findings
from padim_dist.api.pipeline.engines import networks
from padim_dist.api.pipeline.engines.networks import network_id
from padim_dist.api.pipeline.fit_plan import fit_settings, plan_fit
from padim_dist.api.settings import plans
from padim_dist.api.settings.places import workspace_of
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.config import ClusterConfig
from padim_dist.core.engines import packages
from padim_dist.engine.cluster.local import open_local
from padim_dist.errors import (
    ArchiveError,
    ConfigError,
    DamagedFileError,
    ImageError,
    RequestError,
    RunError,
)
from padim_dist.events import Event, Progress, TaskRetried, ignore
from padim_dist.store.models import FitHead, find_model, put_fit
from padim_dist.store.networks.converted import ConvertedNetwork, put_network
from padim_dist.store.weights import kept_weights
from tests.conftest import draw, make_mvtec, tiny_config

INT8 = {"engine": "openvino", "precision": "int8"}


class KillingReader(ImageReader):
    """Kills its process at one image, as a fault of a decoder does."""

    def decode(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        if row.uri.endswith("a/train/good/03.jpg"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(row, data)


def weights_of(config) -> str:
    return plan_fit(config, ignore, None).embedding.weights


def test_a_network_is_found_once_for_an_archive(tmp_path, scheduler, caplog):
    """Other images, other parts and another rule make no other network; other settings do."""
    root = make_mvtec(tmp_path / "archive", groups=("a", "b"))
    (root / "a/train/good/broken.jpg").write_bytes(b"no image")
    config = tiny_config(tmp_path, root, scheduler, model=INT8)
    heard: list[object] = []
    plan = plan_fit(config, heard.append, None)
    stages = {e.stage: e for e in heard if isinstance(e, Progress)}
    read, made = stages["fit: sample"], stages["fit: network"]
    assert (read.total, read.done, read.failed) == (21, 21, 1)
    assert (made.total, made.done) == (21, 21)
    assert "quantised on" not in caplog.text
    (record,) = (tmp_path / "audit/networks").iterdir()
    said = json.loads(record.read_text())
    assert said["weights"] == plan.embedding.weights
    assert len(said["images"]) == 20  # all that can be read
    assert said["versions"].keys() == {"torch", "openvino", "nncf"}
    kept = kept_weights(plan.workspace, plan.embedding.weights)
    assert kept.keys() == {"network.xml", "network.bin"}
    assert {job.embedding.weights for job in plan.jobs} == {plan.embedding.weights}
    # Neither new images nor other parts make another network; another seed, other pixels would.
    draw(root / "a/train/good/new.jpg", seed=900)
    more = tiny_config(tmp_path, root, None, model=INT8, fit={"parts": 2})
    assert weights_of(more) == said["weights"]
    seeded = tiny_config(tmp_path, root, None, model={**INT8, "seed": 7})
    state = plans.load_state(config, plan.embedding.trunk)
    reduced = tiny_config(tmp_path, root, None, model={**INT8, "jpeg": "reduced"})
    found = [network_id(one, plan.embedding, state) for one in (config, more, seeded, reduced)]
    assert found[:2] == [record.stem, record.stem]
    assert len({*found}) == 3
    # A damaged network is another one if it is made again, unlike weights.
    path = Path(tmp_path / f"audit/weights/{plan.embedding.weights}.pt")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DamagedFileError, match=r"Restore it from a copy.* another model"):
        kept_weights(plan.workspace, plan.embedding.weights)


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


def test_a_sample_without_an_image_is_refused(tmp_path, scheduler, monkeypatch):
    root = make_mvtec(tmp_path / "archive", groups=("a",), normal=2)
    for path in (root / "a/train/good").iterdir():
        path.write_bytes(b"no image")
    config = tiny_config(tmp_path, root, scheduler, model=INT8)
    with pytest.raises(ArchiveError, match=r"none of 2 can; the first: .*model\.precision"):
        plan_fit(config, ignore, None)
    monkeypatch.setattr(networks, "sample_rows", lambda *_: [])
    with pytest.raises(ArchiveError, match=r"chosen by model\.seed .* is used by this fit"):
        plan_fit(config, ignore, None)


def test_an_image_that_cannot_be_read_now_ends_the_fit(tmp_path, scheduler):
    """It is not left out of a network that is kept for good."""
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, root, scheduler, model=INT8)
    padim.index(config)
    (root / "a/train/good/03.jpg").unlink()
    with pytest.raises(RunError, match=r"1 image of 10 .*int8.*missing.*fit[.]without"):
        plan_fit(config, ignore, None)
    assert not (tmp_path / "audit/networks").exists()


def test_a_fit_with_another_network_is_refused_before_that_is_made(tmp_path):
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    started = tiny_config(tmp_path, root, None)
    plan = plan_fit(started, ignore, None)
    put_fit(plan.workspace, FitHead(plan.fit_id, fit_settings(started), [], "now"))
    config = tiny_config(tmp_path, root, None, model=INT8)
    with pytest.raises(RequestError, match=r"model\.precision: 'float32' -> 'int8'"):
        plan_fit(config, ignore, plan.fit_id)
    put_fit(plan.workspace, FitHead("int8", fit_settings(config), [], "now"))
    with pytest.raises(RequestError, match="its network, which networks/ has no more"):
        plan_fit(config, ignore, "int8")
    assert not (tmp_path / "audit/networks").exists()


def test_only_who_makes_a_network_needs_what_quantises(tmp_path, monkeypatch):
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, root, None, model=INT8)
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "nncf" else name)
    (finding,) = conversion_findings(config.model)
    assert finding.verdict == "warning"
    assert "nncf" in finding.found
    with pytest.raises(ConfigError, match="needs the package nncf"):
        plan_fit(config, ignore, None)
    network = ConvertedNetwork("kept", {}, {}, "now")
    spec = plans.plan_embedding(config)
    asked = network_id(config, spec, plans.load_state(config, spec.trunk))
    workspace = workspace_of(config)
    workspace.folder.put(workspace.weights("kept"), b"")
    put_network(workspace, asked, network)
    assert weights_of(config) == "kept"


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_left_out_of_the_sample(
    tmp_path, scheduler, monkeypatch, caplog
):
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, root, scheduler, model=INT8)
    usual = plans.reader_of
    monkeypatch.setattr(plans, "reader_of", lambda *more: KillingReader(**vars(usual(*more))))
    heard: list[Event] = []
    plan_fit(config, heard.append, None)
    retried = [event for event in heard if isinstance(event, TaskRetried)]
    assert any("1 image kills the worker" in event.reason for event in retried)
    (record,) = (tmp_path / "audit/networks").iterdir()
    assert len(json.loads(record.read_text())["images"]) == 9
    assert "quantised on 9 images only" in caplog.text
    assert str(record) in caplog.text


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
