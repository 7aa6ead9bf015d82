"""Fits and scores with networks that are not torchvision's, in real worker processes."""

from __future__ import annotations

import pytest

import padim_dist as padim
from padim_dist.api.settings.places import workspace_of
from padim_dist.store.models import find_model
from tests.conftest import make_mvtec, tiny_config

pytest.importorskip("timm", reason="SKIPPED PART: the extra timm is not installed")
OWN = "tests.core.networks_of_ones_own:small"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "layers"),
    [("timm/test_vit", ["blocks.1", "blocks.4"]), (OWN, ["shared", "second"])],
)
def test_workers_make_the_network(tmp_path, scheduler, backbone, layers):
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    model = {"backbone": backbone, "layers": layers, "channels": 15}
    config = tiny_config(tmp_path, root, scheduler, model=model)
    fitted = padim.fit(config)
    scored = padim.score(config)
    with padim.connect(config) as connection:
        rows = connection.sql("SELECT uri, score FROM scores WHERE status = 'scored'").fetchall()
    assert len(rows) == 18
    assert len({score for _, score in rows}) == 18
    info = find_model(workspace_of(config), fitted.model_id)
    assert info is not None
    assert info.embedding.trunk.backbone == backbone
    assert info.embedding.trunk.size == (64, 64)
    assert ("timm" in info.versions) == backbone.startswith("timm/")
    verified = padim.verify(config, run=scored.run_id, all_shards=True)
    assert verified.verdict == "as it was written"
    other = config.model_copy(update={"model": config.model.model_copy(update={"seed": 7})})
    assert padim.fit(other).model_id != fitted.model_id
