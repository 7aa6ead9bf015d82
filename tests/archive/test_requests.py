from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from padim_dist.archive.reading.requests import plan_requests
from tests.archive.rows import image_row

spans = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 900)), max_size=30)


@given(
    st.lists(st.tuples(st.sampled_from(["a.tar", "b.tar", "c.png"]), spans), max_size=4),
    st.integers(0, 400),
    st.integers(1, 3000),
    st.integers(1, 6),
)
def test_every_row_gets_its_bytes_from_few_bounded_requests(objects, gap, longest, most):
    content = bytes(i % 251 for i in range(40_000))
    rows = []
    for uri, steps in objects:
        at = 0
        for skipped, length in steps:
            member = None if uri == "c.png" else "m"
            offset = 0 if member is None else at + skipped
            at = offset + length
            rows.append(image_row(uri, length, member=member, offset=offset))
    requests = list(plan_requests(rows, gap, longest, most))
    assert [row for request in requests for row in request.rows] == rows
    for request in requests:
        assert {row.uri for row in request.rows} == {request.uri}
        assert len(request.rows) <= most
        if request.start is None:
            assert len(request.rows) == 1
            assert request.cut(content) == [content]
            continue
        assert request.size <= longest or len(request.rows) == 1
        wanted = [content[r.offset : r.offset + r.length] for r in request.rows]
        assert request.cut(content[request.start : request.stop]) == wanted
    for one, two in itertools.pairwise(requests):
        if one.uri == two.uri and one.stop is not None and two.start is not None:
            apart = two.start < one.start or two.start > one.stop + gap
            assert (
                apart
                or len(one.rows) == most
                or max(one.stop, two.rows[0].offset + two.rows[0].length) - one.start > longest
            )
