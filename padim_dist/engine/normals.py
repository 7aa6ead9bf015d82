"""Rows of the table of a model's normal images, from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from padim_dist.core.calibration import Calibration, suspect_threshold
from padim_dist.engine.fit import EmbedJob
from padim_dist.redaction import redacted
from padim_dist.store.manifests import read_shard
from padim_dist.store.normals import NORMALS_SCHEMA, Dropped

_COLUMNS = ("image_id", "uri", "member", "etag")
_OF_A_PART = (*_COLUMNS, "score", "p_value", "threshold", "round")


@dataclass(frozen=True)
class FittedPart:
    """A part that a model merges.

    Attributes
    ----------
    job : EmbedJob
        Names its rows, and its receipt with the images that could not be used.
    gone : frozenset of str
        Ids of its images that were taken out of the model again.
    left_out : str or None
        Path of its leave-one-out results; None if none of its images is in the sample.
    """

    job: EmbedJob
    gone: frozenset[str] = frozenset()
    left_out: str | None = None


def normal_rows(
    model_id: str,
    group: str,
    parts: Sequence[FittedPart],
    scores: Mapping[str, Mapping[str, float]],
    calibration: Calibration | None,
    dropped: Sequence[Dropped],
) -> pa.Table:
    """Return the rows of a group: its fitted images, and those that were dropped as suspects.

    Parameters
    ----------
    parts : sequence of FittedPart
        Its parts.
    scores : mapping of str to mapping of str to float
        Leave-one-out scores by image id, by the path of the results of a part.
    calibration : Calibration or None
        Of these scores.
    dropped : sequence of Dropped
        The images that were dropped, which are in `gone` of their parts.
    """
    out = {(one.manifest, one.image_id): one for one in dropped}
    tables = [_rows(part, scores.get(part.left_out or "", {}), out) for part in parts]
    return _judged(pa.concat_tables(tables), model_id, group, calibration)


def _rows(
    part: FittedPart, scores: Mapping[str, float], dropped: Mapping[tuple[str, str], Dropped]
) -> pa.Table:
    """Return the rows of a part, as far as they do not depend on other parts."""
    job, receipt = part.job, part.job.kept()
    only, unusable = set(job.images), receipt.unusable if receipt else frozenset()
    made: dict[str, list[object]] = {name: [] for name in _OF_A_PART}
    for shard in job.part.shards:
        table = read_shard(job.workspace, job.snapshot, shard.shard, _COLUMNS)
        for values in zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True):
            image_id = values[0]
            drop = dropped.get((job.snapshot, image_id))
            is_gone = image_id in part.gone and drop is None
            if is_gone or image_id in unusable or (only and image_id not in only):
                continue
            score = drop.score if drop else scores.get(image_id)
            given = (drop.p_value, drop.threshold, drop.round) if drop else (None, None, None)
            for name, value in zip(_OF_A_PART, (*values, score, *given), strict=True):
                made[name].append(redacted(str(value)) if name == "uri" else value)
    return pa.Table.from_pydict(made, pa.schema([NORMALS_SCHEMA.field(n) for n in _OF_A_PART]))


def _judged(rows: pa.Table, model_id: str, group: str, calibration: Calibration | None) -> pa.Table:
    """Return the rows of all parts with their p-values among the others, and who is a suspect."""
    columns = {name: rows[name] for name in rows.column_names}
    dropped = np.asarray(pc.is_valid(rows["round"]))
    scores = rows["score"].to_numpy()  # NaN for null
    own = np.isfinite(scores) & ~dropped
    limit = suspect_threshold(scores[own])
    p_values = rows["p_value"].to_numpy().copy()
    if calibration and own.any():
        p_values[own], _ = calibration.p_values(scores[own], scores[own])
    thresholds = rows["threshold"].to_numpy().copy()
    thresholds[own] = limit
    columns["p_value"] = pa.array(p_values, mask=np.isnan(p_values))
    columns["threshold"] = pa.array(thresholds, mask=~np.isfinite(thresholds))
    columns["dropped"] = pa.array(dropped)
    columns["suspect"] = pa.array(dropped | (own & (np.nan_to_num(scores) > limit)))
    columns["model_id"] = pa.array([model_id] * len(rows), pa.string())
    columns["group"] = pa.array([group] * len(rows), pa.string())
    return pa.table({name: columns[name] for name in NORMALS_SCHEMA.names}, NORMALS_SCHEMA)
