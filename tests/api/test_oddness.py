"""Which nights are odd, and the reasons given."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import duckdb
import numpy as np
import pyarrow as pa

from padim_dist.api.nights.camera import Camera, night_cameras
from padim_dist.api.nights.oddness import odd_reasons
from padim_dist.config import AuditConfig
from padim_dist.core.align.motion import Motion
from padim_dist.core.align.position import Position
from padim_dist.store.nights import DriftNight, GroupNight, NightSummary

POLICY = AuditConfig(unusable=0.1, rise=0.5)


def night(median: float = 10.0, model: str = "m", groups: tuple[str, ...] = ("a",)) -> NightSummary:
    figures = {name: GroupNight(100, 100, median, 2 * median) for name in groups}
    counts = {"scored": 100 * len(groups)}
    return NightSummary(
        1, "done", [], "2026-11-01", model, 100, counts, figures, [], [], "", False, "", ""
    )


def reasons(median: float, before: list[NightSummary], **statuses: int) -> list[str]:
    groups = {"a": GroupNight(100, 100, median, 2 * median)}
    return odd_reasons(POLICY, "m", statuses or {"scored": 100}, groups, before)


def test_a_night_like_others_is_not_odd():
    assert reasons(10.0, []) == []
    assert reasons(14.9, [night(), night(9.0), night(11.0)]) == []


def test_a_night_without_images_is_odd():
    (reason,) = odd_reasons(POLICY, "m", {}, {}, [night()] * 5)
    assert "no image came" in reason


def test_more_unusable_images_than_the_policy_allows_are_odd():
    assert reasons(10.0, [], scored=90, missing=10) == []
    (reason,) = reasons(10.0, [], scored=89, missing=1, unreadable=10)
    assert "11% of 100 images" in reason
    assert "1 missing, 10 unreadable" in reason


def test_a_rise_is_measured_against_three_nights_of_the_same_model():
    assert reasons(30.0, [night()] * 2) == []
    assert reasons(30.0, [night(model="other")] * 5) == []
    (reason,) = reasons(15.1, [night(), night(9.0), night(80.0), night(model="other")])
    assert "'a': the median score is 15.1, 10.0 is usual" in reason


def judged(flagged: int, excess: float = 0.0, noise: float = 0.1) -> GroupNight:
    return GroupNight(100, 100, 10.0, 20.0, flagged, 0.01, DriftNight(excess, noise))


def odd(tonight: GroupNight, past: list[GroupNight]) -> list[str]:
    before = [replace(night(), groups={"a": group}) for group in past]
    return odd_reasons(POLICY, "m", {"scored": 100}, {"a": tonight}, before)


def test_more_alarms_than_usual_are_odd():
    calm = [judged(1), judged(0), judged(2)]
    assert odd(judged(3), calm) == [], "three may be by chance"
    assert odd(judged(90), calm[:2]) == [], "no history"
    assert odd(judged(9), [judged(8)] * 3) == [], "as many as usual"
    (reason,) = odd(judged(8), calm)
    assert "'a': 8 of 100 images are flagged, 1.0 are usual" in reason


def test_drift_is_odd_beyond_its_own_history():
    still = [judged(0, excess) for excess in (0.7, 0.8, 0.9)]
    assert odd(judged(0, 1.2), still) == []
    assert odd(judged(0, 9.9), still[:2]) == [], "no history"
    wild = [judged(0, excess) for excess in (0.1, 0.8, 1.5)]
    assert odd(judged(0, 1.7), wild) == [], "within the spread of the earlier nights"
    (reason,) = odd(judged(0, 1.7), still)
    assert "'a': the scene has moved from the model, by 5 standard deviations more" in reason
    assert odd(judged(0, -5.0), still) == [], "less drift is not odd"


def test_a_group_without_images_is_odd():
    both = night(groups=("a", "b"))
    assert reasons(10.0, [both, both]) == []
    assert reasons(10.0, [both, night(), both]) == []
    (reason,) = reasons(10.0, [night(), both, both, both])
    assert "no image of 'b'" in reason


def cameras(motions: dict[str, list[Motion | None]], usual: Position) -> dict[str | None, Camera]:
    """Return what the rows of a night say of cameras whose images lay as `usual` in the model."""
    rows = [
        {
            "group": group,
            "aligned": 0.9 if one else 0.0,
            **{axis: getattr(one, axis, None) for axis in ("shift_y", "shift_x", "angle")},
        }
        for group, own in motions.items()
        for one in own
    ]
    rows += [dict(rows[0], group=None, angle=None), dict(rows[0], aligned=None, angle=None)]
    schema = pa.schema({"group": pa.string(), **dict.fromkeys([*rows[0]][1:], pa.float64())})
    scores = duckdb.connect().from_arrow(pa.Table.from_pylist(rows, schema))
    return night_cameras(scores, SimpleNamespace(positions=dict.fromkeys("abc", usual)))


def test_a_camera_whose_images_cannot_be_aligned_any_more_is_odd():
    usual = Position(100, 95, 0.0, 0.0, 0.0, 1.0, 0.5)
    random = np.random.default_rng(0)
    around = [Motion(*random.normal(0, (1, 1, 0.5))) for _ in range(40)]
    found = cameras(
        {
            "a": [None] * 38 + around[:2],
            "b": [None] * 4 + around[:36],
            "c": [Motion(20 + one.shift_y, one.shift_x, one.angle) for one in around],
            "unknown": [None] * 40,
        },
        usual,
    )
    assert found.keys() == {*"abc"}
    assert found["b"] == Camera()
    assert found["c"].moved.shift_y > 19
    assert found["a"].moved is None
    group = GroupNight(40, 40, 10.0, 20.0, unaligned=found["a"].unaligned)
    (reason,) = odd_reasons(POLICY, "m", {"scored": 40}, {"a": group}, [])
    assert "'a': 38 of 40 images could not be aligned (5 % in the model)" in reason
    assert "model.align.number" in reason


def test_parts_that_lie_upside_down_have_not_moved():
    usual = Position.of([Motion(0, 0, angle) for angle in (179, -179, 178, -178)] * 20)
    found = cameras({"a": [Motion(0, 0, angle) for angle in (-179, -178.5, -179.5)] * 9}, usual)
    assert found == {"a": Camera()}
