"""One trial of killed drivers, and tests of the comparison. ``make chaos`` runs more trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from tests.chaos.faults import DriverKills
from tests.chaos.laboratory import DRIVER_KILLS, WORKER_KILLS, Laboratory, Trial
from tests.chaos.results import Outcome
from tests.chaos.table import make_table
from tests.chaos.ward import Ward


@pytest.fixture(scope="module")
def laboratory(scheduler) -> Iterator[Laboratory]:
    with Laboratory(seed=1, normal=30, scheduler=scheduler) as laboratory:
        yield laboratory


@pytest.fixture(scope="module")
def ward(scheduler) -> Iterator[Ward]:
    with Ward(seed=1, normal=10, scheduler=scheduler) as ward:
        yield ward


@pytest.mark.slow
def test_killed_drivers_change_nothing(laboratory):
    """tests/engine/test_faults.py tests killed workers, tests/s3 failing requests."""
    # This seed kills a fit between its shards, and a score.
    trial = laboratory.try_(DRIVER_KILLS, seed=3, faults=DriverKills(seed=3, kills=2))
    assert trial.differences == []
    assert trial.faults.total() == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ill store: EIO", "bad object: read that blocks"])
def test_an_ill_store_and_a_bad_object_change_nothing(ward, kind):
    """tests/archive/test_witness.py tests other kinds, in one process."""
    trial = ward.try_(kind, seed=2)
    assert trial.differences == []
    # It struck while the archive was listed, or later.
    ends = {"RunError", "ArchiveError"} if "ill" in kind else {"timeout"}
    assert list(trial.faults.values()) == [1]
    assert trial.faults.keys() <= ends


def test_a_single_bit_is_a_difference():
    rows = [{"image_id": name, "uri": f"/a/{name}", "score": 0.5} for name in "xy"]
    model = {"mean": np.ones(3), "scatter": np.zeros(2)}
    reference = Outcome(model, rows, np.zeros((2, 4, 4), np.float16))
    assert reference.differences(reference) == []
    other = np.nextafter(model["mean"], 2.0)
    other = dataclasses.replace(reference, model={**model, "mean": other})
    assert other.differences(reference) == ["model: array mean differs"]
    minus = {**model, "scatter": -model["scatter"]}
    other = dataclasses.replace(reference, model=minus)
    assert other.differences(reference) == ["model: array scatter differs"]
    other = dataclasses.replace(reference, rows=[rows[0], rows[0], {**rows[1], "score": 0.25}])
    assert [found[:20] for found in other.differences(reference)] == [
        "score table: 3 rows,",
        "score table: image y",
    ]
    moved = dataclasses.replace(reference, rows=[{**row, "uri": "s3://a"} for row in rows])
    assert len(moved.differences(reference)) == 2
    assert moved.differences(reference, elsewhere=True) == []


def test_the_table_adds_up():
    table = make_table(
        [Trial(WORKER_KILLS, 0, 1.0), Trial(WORKER_KILLS, 1, 3.0, differences=["x"])]
    )
    assert [next(iter(column.cells)) for column in table.columns] == [
        WORKER_KILLS,
        "2",
        "-",
        "2.0",
        "3.0",
        "1",
    ]
