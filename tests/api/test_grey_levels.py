"""Groups that use few grey levels, from the command line's functions down to the pixels."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile

import padim_dist as padim
from padim_dist.errors import RequestError
from tests.conftest import tiny_config


@pytest.fixture(scope="module")
def config(tmp_path_factory, scheduler) -> padim.Config:
    """An archive of a 12-bit camera, and one that uses all levels."""
    folder = tmp_path_factory.mktemp("levels")
    rng = np.random.default_rng(3)
    for group, most in (("deep", 2**16), ("shallow", 2**12)):
        (folder / f"archive/{group}/good").mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, most, (40, 50), dtype=np.uint16)
            tifffile.imwrite(folder / f"archive/{group}/good/{number}.tif", pixels)
    grouped = {"layout": "folder", "group": "^(?P<group>[^/]+)/"}
    return tiny_config(folder, folder / "archive", scheduler, archive=grouped)


def few(texts: list[str]) -> list[str]:
    return [text for text in texts if "few grey levels" in text]


def test_fit_and_doctor_warn_until_the_bits_are_set(config):
    (warning,) = few(padim.fit(config).warnings)
    # Resizing may add a level to the highest, 16.
    assert re.search("few grey levels in 1 group: 'shallow' at most 1[67] of 255", warning)
    assert "set archive.bits" in warning
    (finding,) = [one for one in padim.doctor(config).findings if one.check == "images"]
    assert finding.verdict == "warning"
    assert "'shallow' at most 1" in finding.found
    twelve = config.model_copy(update={"archive": config.archive.model_copy(update={"bits": 12})})
    first, second = padim.fit(config), padim.fit(twelve)
    assert few(first.warnings) == [warning]  # also from receipts
    assert not few(second.warnings)
    assert first.model_id != second.model_id
    with pytest.raises(RequestError, match=r"archive\.bits: 12 -> None"):
        padim.score(config, model=second.model_id)


def test_ids_do_not_change_where_bits_are_not_set(config):
    from padim_dist.api.settings.places import asked_settings, model_settings
    from padim_dist.api.settings.plans import plan_embedding

    assert "bits" not in plan_embedding(config).to_dict()
    assert "bits" not in model_settings(config)["archive"]
    assert "bits" not in asked_settings(config)["archive"]
