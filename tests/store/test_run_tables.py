"""The columns of a run's tables: they are a file format."""

import pyarrow as pa

from padim_dist.store.runs.rows import REGIONS_SCHEMA, SCORES_SCHEMA


def test_the_columns_of_the_score_table_are_those_of_the_format():
    expected = pa.schema(
        [
            ("image_id", pa.string()),
            ("uri", pa.string()),
            ("member", pa.string()),
            ("etag", pa.string()),
            ("group", pa.string()),
            ("split", pa.string()),
            ("label", pa.string()),
            ("status", pa.string()),
            ("error", pa.string()),
            ("score", pa.float32()),
            ("p_value", pa.float64()),
            ("p_extrapolated", pa.bool_()),
            ("resolution", pa.float64()),
            ("left_out", pa.bool_()),
            ("peak_y", pa.int32()),
            ("peak_x", pa.int32()),
            ("score_fine", pa.float32()),
            ("score_middle", pa.float32()),
            ("score_coarse", pa.float32()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("bits", pa.int32()),
            ("grey", pa.bool_()),
            ("captured_at", pa.timestamp("us", tz="UTC")),
            ("heatmap_row", pa.int64()),
            ("shift_y", pa.float64()),
            ("shift_x", pa.float64()),
            ("angle", pa.float64()),
            ("aligned", pa.float32()),
            ("shard", pa.int32()),
            ("run_id", pa.string()),
            ("model_id", pa.string()),
            ("scored_at", pa.timestamp("us", tz="UTC")),
        ],
        metadata={"padim_dist.scores": "3"},
    )
    assert SCORES_SCHEMA.equals(expected, check_metadata=True)


def test_the_columns_of_the_table_of_regions_are_those_of_the_format():
    expected = pa.schema(
        [
            ("image_id", pa.string()),
            ("uri", pa.string()),
            ("member", pa.string()),
            ("group", pa.string()),
            ("label", pa.string()),
            ("region", pa.int32()),
            ("area", pa.int64()),
            ("top", pa.int32()),
            ("left", pa.int32()),
            ("bottom", pa.int32()),
            ("right", pa.int32()),
            ("peak", pa.float32()),
            ("peak_y", pa.int32()),
            ("peak_x", pa.int32()),
            ("p_value", pa.float64()),
            ("shard", pa.int32()),
            ("run_id", pa.string()),
            ("model_id", pa.string()),
        ],
        metadata={"padim_dist.regions": "1"},
    )
    assert REGIONS_SCHEMA.equals(expected, check_metadata=True)
