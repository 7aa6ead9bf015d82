"""Reviews: nothing is lost, the newest counts, a damaged file costs only itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from padim_dist.storage import Folder
from padim_dist.store.image_objects import ids_of
from padim_dist.store.reviews import Review, add_reviews, newest_verdicts, read_reviews
from padim_dist.store.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(Folder(str(tmp_path / "audit")))


def add(workspace, *reviews, who="ann"):
    made = [Review(image_id=image, verdict=verdict) for image, verdict in reviews]
    return add_reviews(workspace, who, "2026-01-01T00:00:00+00:00", None, made)


def test_the_newest_review_counts_and_all_are_kept(workspace):
    assert newest_verdicts(workspace) == {}
    add(workspace, ("a", "ok"), ("b", "ok"))
    add(workspace, ("a", "defect"), ("a", "ok"), ("a", "defect"), who="bob")
    newest = newest_verdicts(workspace)
    found = {one.image_id: (v.verdict, v.who, v.number) for one, v in newest.items()}
    assert found == {"a": ("defect", "bob", 2), "b": ("ok", "ann", 1)}
    assert [len(batch.reviews) for batch in read_reviews(workspace)] == [2, 3]


def test_reviews_of_another_object_at_the_same_path_hide_nothing(workspace):
    for etag, verdict in (("1", "defect"), (None, "defect"), ("2", "ok"), (None, "ok")):
        made = Review(image_id="a", verdict=verdict, etag=etag)
        add_reviews(workspace, "ann", "2026-01-01T00:00:00+00:00", None, [made])
    found = {one.etag: v.verdict for one, v in newest_verdicts(workspace).items()}
    assert found == {"1": "defect", "2": "ok", None: "ok"}


def test_people_who_review_at_once_lose_nothing(workspace):
    def review(person: int) -> None:
        for turn in range(5):
            add(workspace, (f"{person}-{turn}", "ok"), who=str(person))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(review, range(8)))
    batches = read_reviews(workspace)
    assert [batch.number for batch in batches] == list(range(1, 41))
    assert len(newest_verdicts(workspace)) == 40


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"number": 2, "who": "ann"',
        b'{"number": 2, "who": "x", "at": "", "run_id": null, "reviews": [{"image_id": "a"}]}',
        b'{"number": 2, "who": "x", "at": "", "run_id": null,'
        b' "reviews": [{"image_id": "a", "verdict": "fine"}]}',
    ],
)
def test_a_damaged_file_is_named_and_the_others_go_on(workspace, content, caplog):
    add(workspace, ("a", "ok"))
    add(workspace, ("b", "ok"))
    workspace.folder.put("reviews/00002.json", content)
    add(workspace, ("c", "defect"))
    assert ids_of(newest_verdicts(workspace)) == {"a", "c"}
    assert "reviews/00002.json is damaged" in caplog.text
