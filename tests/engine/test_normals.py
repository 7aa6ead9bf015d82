"""The normal images behind a model: judged as if they were not in it, suspects, forgotten ones."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.api.analysis.run_images import RunImages
from padim_dist.api.pipeline.chosen.pieces import find_normal
from padim_dist.api.pipeline.fit_plan import plan_fit
from padim_dist.api.pipeline.index import current_manifest
from padim_dist.api.report.suspects import find_suspects
from padim_dist.config import ClusterConfig, Config, make_config
from padim_dist.core.calibration import PIXEL_ALPHAS, Calibration
from padim_dist.engine.cluster.local import open_local
from padim_dist.errors import ConfigError, DamagedFileError, RequestError
from padim_dist.events import Event, Listener, TaskFinished, ignore
from padim_dist.storage import Folder
from padim_dist.store.image_objects import ImageObject
from padim_dist.store.models import list_models
from padim_dist.store.normals import read_members, read_normals
from padim_dist.store.reviews import DEFECT, OK, Review, VerdictName, add_reviews
from padim_dist.store.runs.run import list_runs
from padim_dist.store.workspace import Workspace
from tests.conftest import draw, tiny_config
from tests.results import Arrays, arrays, same, scores

NORMAL = 30
BAD = ("07.jpg", "19.jpg")
"""Normal images with a defect."""


def make_archive(root: Path) -> Path:
    for i in range(NORMAL):
        name = f"{i:02d}.jpg"
        draw(root / "train/good" / name, i, spoiled=name in BAD)
    draw(root / "test/good/new.png", 999)
    return root


def config_of(tmp_path: Path, root: Path, scheduler: str | None, **changes: object) -> Config:
    archive = {"group": None, "shard_images": 6}
    given = {"fit": {"parts": 3}, **changes}
    return tiny_config(tmp_path, root, scheduler, archive=archive, **given)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return make_archive(tmp_path_factory.mktemp("normals") / "archive")


@pytest.fixture(scope="module")
def warned(tmp_path_factory, archive, scheduler) -> Config:
    """A fit that warns of its suspects, and a run that scores all images."""
    config = config_of(tmp_path_factory.mktemp("warned"), archive, scheduler)
    padim.fit(config)
    padim.score(config)
    return config


def workspace_of(config: Config) -> Workspace:
    return Workspace(Folder(config.workspace))


def normals(config: Config) -> pa.Table:
    workspace = workspace_of(config)
    return read_normals(workspace, list_models(workspace)[-1].model_id, "all")


def name_of(row: dict) -> str:
    return Path(row["uri"]).name


def test_the_report_shows_suspects_with_pictures(warned):
    run = RunImages(warned, list_runs(workspace_of(warned))[-1].run_id)
    found, left = find_suspects(warned, run)
    assert left == 0
    assert {item.name for item in found} == set(BAD)
    listed = {row.image_id: row.score for row in padim.suspects(warned).suspects}
    assert {item.image_id: item.score for item in found} == listed
    for item in found:
        assert not item.dropped
        shown = np.asarray(Image.open(io.BytesIO(item.picture)).convert("RGB"), float)
        original = np.asarray(Image.open(Path(warned.archive.url, item.path)).convert("RGB"), float)
        assert np.abs(shown - original).mean() < 6


def test_images_in_the_model_are_judged_by_a_fit_without_them(tmp_path, warned, archive, scheduler):
    """The regularisation of the others is that for which leaving out is exact."""
    rows = {name_of(row): row for row in scores(warned)}
    assert {row["left_out"] for name, row in rows.items() if name != "new.png"} == {True}
    assert rows["new.png"]["left_out"] is False
    n, epsilon = NORMAL, warned.model.epsilon
    name, root = BAD[0], tmp_path / "archive"
    shutil.copytree(archive, root)
    (root / "train/good" / name).rename(root / "test/good" / name)
    model = {"epsilon": epsilon * (n - 1) / (n - 2)}
    config = config_of(tmp_path, root, scheduler, model=model)
    padim.fit(config)
    padim.score(config)
    found, alone = rows[name], {name_of(row): row for row in scores(config)}[name]
    assert alone["left_out"] is False
    assert found["score"] == pytest.approx(alone["score"], rel=1e-3)
    assert (found["peak_y"], found["peak_x"]) == (alone["peak_y"], alone["peak_x"])


def test_their_p_values_are_those_among_the_others(warned):
    rows = [row for row in scores(warned) if row["left_out"]]
    values = np.array([row["score"] for row in rows])
    for i, row in enumerate(rows):
        others = Calibration(np.sort(np.delete(values, i)), np.zeros(len(PIXEL_ALPHAS)))
        p, extrapolated = others.p_values([values[i]])
        assert row["p_value"] == pytest.approx(p[0], rel=0.05 if extrapolated[0] else 1e-9)
        assert row["p_extrapolated"] == extrapolated[0]
    # The same numbers are in the model.
    kept = {row["image_id"]: row for row in normals(warned).to_pylist()}
    for row in rows:
        assert kept[row["image_id"]]["score"] == pytest.approx(row["score"], rel=1e-4)
        assert kept[row["image_id"]]["p_value"] == pytest.approx(row["p_value"], rel=1e-2)


def test_the_table_has_every_normal_image_and_names_the_suspects(warned):
    rows = normals(warned).to_pylist()
    assert len(rows) == NORMAL
    assert {name_of(row) for row in rows[:2]} == set(BAD)
    assert [row["suspect"] for row in rows] == [True, True] + [False] * (NORMAL - 2)
    values = [row["score"] for row in rows]
    assert values == sorted(values, reverse=True)
    median = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - median))
    assert rows[0]["threshold"] == pytest.approx(median + 4 * spread)
    assert not any(row["dropped"] for row in rows)


def test_a_replaced_image_is_judged_as_any_other(tmp_path, warned, scheduler):
    """Its etag is another one than that of the image in the model."""
    shutil.copytree(warned.archive.url, tmp_path / "archive")
    shutil.copytree(warned.workspace, tmp_path / "audit")
    config = config_of(tmp_path, tmp_path / "archive", scheduler)
    config = config.model_copy(
        update={"archive": config.archive.model_copy(update={"name": warned.archive.url})}
    )
    draw(tmp_path / "archive/train/good/03.jpg", 1234)
    padim.index(config)
    model = list_models(workspace_of(config))[-1].model_id
    run = padim.score(config, model=model)
    found = padim.open_scores(f"{config.workspace}/runs/{run.run_id}")
    left_out = {name_of(row): row["left_out"] for row in found.to_arrow_table().to_pylist()}
    assert {name for name, is_left_out in left_out.items() if not is_left_out} == {
        "03.jpg",
        "new.png",
    }


def test_members_are_found_by_id_and_etag(warned):
    workspace = workspace_of(warned)
    rows = normals(warned).to_pylist()
    members = read_members(workspace, list_models(workspace)[-1].model_id, "all")
    assert members.count == NORMAL
    ids, etags = [row["image_id"] for row in rows], [row["etag"] for row in rows]
    found, own = members.find(ids, etags)
    assert found.all()
    assert own.tolist() == [row["score"] for row in rows]
    assert not members.find(ids, ["another"] * NORMAL)[0].any()


def test_a_changed_bit_in_the_table_is_never_another_number(tmp_path, warned):
    shutil.copytree(warned.workspace, tmp_path / "audit")
    workspace = Workspace(Folder(str(tmp_path / "audit")))
    model = list_models(workspace)[-1].model_id
    wanted = read_normals(workspace, model, "all")
    (file,) = (tmp_path / "audit/models").rglob(".normals/*.parquet")
    column = pq.read_metadata(file).row_group(0).column(wanted.column_names.index("score"))
    start, data, damaged = column.dictionary_page_offset, file.read_bytes(), 0
    for at in range(start, start + column.total_compressed_size, 5):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            assert read_normals(workspace, model, "all") == wanted
        except DamagedFileError:
            damaged += 1
    assert damaged > 20


@pytest.fixture(scope="module")
def dropped(tmp_path_factory, archive, scheduler) -> Config:
    """A fit that drops its suspects."""
    fit = {"parts": 3, "suspects": "drop"}
    config = config_of(tmp_path_factory.mktemp("dropped"), archive, scheduler, fit=fit)
    found = padim.fit(config)
    assert (found.dropped, found.suspects, found.groups) == ({"all": 2}, {}, {"all": NORMAL - 2})
    assert "dropped as suspects: 2 normal images in 1 group" in " ".join(found.warnings)
    return config


def test_a_fit_warns_of_its_suspects(warned):
    found = padim.fit(warned)
    assert found.suspects == {"all": 2}
    (text,) = [text for text in found.warnings if text.startswith("suspects: ")]
    for name in BAD:
        assert f"train/good/{name} (score" in text
    assert "times the median of 'all'" in text
    assert f"padim-dist suspects {found.model_id}" in text
    quiet = padim.fit(with_fit(warned, suspects="keep"))
    assert quiet.model_id == found.model_id
    assert not [text for text in quiet.warnings if text.startswith("suspects: ")]


def test_the_model_says_who_was_dropped_and_why(dropped):
    rows = normals(dropped).to_pylist()
    out = [row for row in rows if row["dropped"]]
    assert {name_of(row) for row in out} == set(BAD)
    for row in out:
        assert row["suspect"]
        assert row["score"] > row["threshold"]
        assert row["round"] >= 1
        assert row["p_value"] < 0.1
    assert len(rows) == NORMAL


def test_a_fit_that_drops_is_a_fit_that_never_saw_them(tmp_path, dropped, archive, scheduler):
    root = tmp_path / "archive"
    shutil.copytree(archive, root)
    for name in BAD:
        (root / "train/good" / name).unlink()
    clean = config_of(tmp_path, root, scheduler)
    padim.fit(clean)
    assert_close(arrays(dropped), arrays(clean))
    found = padim.score(dropped)
    rows = padim.open_scores(f"{dropped.workspace}/runs/{found.run_id}").to_arrow_table()
    new = {name_of(row) for row in rows.to_pylist() if not row["left_out"]}
    assert new == {*BAD, "new.png"}


@pytest.mark.slow
def test_dropping_resumes_to_the_same_bits_with_one_worker(tmp_path, dropped, archive):
    """It is killed at the end of the first round, and before the second one."""
    fit = {"parts": 3, "suspects": "drop"}
    with open_local(ClusterConfig(workers=1, memory="4GiB"), 1, None) as client:
        config = config_of(tmp_path, archive, client.scheduler.address, fit=fit)
        for stage in ("fit: trial, drop suspects", "fit: take out"):
            with pytest.raises(KeyboardInterrupt):
                padim.fit(config, interrupt_at(stage))
            assert not list_models(workspace_of(config))
        found = padim.fit(config)
    assert found.dropped == {"all": 2}
    assert same(arrays(config), arrays(dropped))
    assert normals(config).drop_columns(["model_id"]) == normals(dropped).drop_columns(["model_id"])
    models = [path.name for path in (Path(config.workspace) / "models").iterdir()]
    assert models == [f"{found.model_id}.zarr"]
    moments = Path(config.workspace) / "moments"
    assert len(list(moments.glob("*/*/*.json"))) == len(list(moments.glob("*/*/*.zarr"))) == 3


def test_no_more_than_the_share_is_dropped(tmp_path, archive, scheduler):
    fit = {"parts": 3, "suspects": "drop", "suspects_share": 0.04}
    config = config_of(tmp_path, archive, scheduler, fit=fit)
    found = padim.fit(config)
    assert (found.dropped, found.suspects) == ({"all": 1}, {"all": 1})
    assert "fit.suspects_share allows no more to be dropped" in " ".join(found.warnings)


def interrupt_at(stage: str) -> Listener:
    def listener(event: Event) -> None:
        if isinstance(event, TaskFinished) and event.stage == stage:
            raise KeyboardInterrupt

    return listener


def assert_close(found: Arrays, wanted: Arrays) -> None:
    """Up to the rounding of products in float32, of images that are brighter than all others."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=2e-5 * scale, err_msg=name)


def with_fit(config: Config, **fit: object) -> Config:
    return make_config({**config.model_dump(), "fit": {**config.fit.model_dump(), **fit}})


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory, archive, scheduler) -> Config:
    """A copy of the archive, fitted with few kept embeddings: those of one image in five."""
    tmp_path = tmp_path_factory.mktemp("forgetful")
    shutil.copytree(archive, tmp_path / "archive")
    config = config_of(tmp_path, tmp_path / "archive", scheduler, fit={"parts": 3, "sample": 2})
    padim.fit(config)
    return config


def test_a_forgotten_image_was_never_seen_and_stays_forgotten(tmp_path, forgetful, scheduler):
    """One of them was kept as an embedding, and its file is gone; the other one is read again."""
    before = padim.fit(forgetful).model_id
    rows = normals(forgetful).to_pylist()
    kept = next(row for row in rows if row["score"] is not None and name_of(row) not in BAD)
    read = next(row for row in rows if row["score"] is None)
    forgotten = [kept["image_id"], read["image_id"]]
    Path(kept["uri"]).rename(tmp_path / "gone.jpg")
    path = str(Path(read["uri"]).relative_to(forgetful.archive.url))
    named = [kept["image_id"][:15], path]
    found = padim.forget(forgetful, image_ids=named, note="wrong lens")
    assert (found.images, found.forgotten, found.groups) == (2, 2, {"all": NORMAL - 2})
    assert not set(forgotten) & set(normals(forgetful)["image_id"].to_pylist())
    root = tmp_path / "archive"
    shutil.copytree(forgetful.archive.url, root)
    (root / "train/good" / name_of(read)).unlink()
    never = config_of(tmp_path / "never", root, scheduler, fit={"parts": 3, "sample": 2})
    padim.fit(never)
    of_moments = [name for name in arrays(never) if "/calibration/" not in name]
    found_arrays, wanted = arrays(forgetful), arrays(never)
    assert_close(
        {name: found_arrays[name] for name in of_moments},
        {name: wanted[name] for name in of_moments},
    )
    again = padim.fit(forgetful)
    assert (again.model_id, again.groups) == (found.model_id, found.groups)
    assert "2 forgotten images left out of the fit" in " ".join(again.warnings)
    by_name = padim.fit(with_fit(forgetful, without=forgotten))
    assert by_name.model_id == found.model_id
    back = padim.forget(forgetful, image_ids=forgotten, undo=True)
    assert (back.forgotten, back.model_id) == (0, before)
    (tmp_path / "gone.jpg").rename(kept["uri"])


def test_what_replaces_a_forgotten_image_is_not_forgotten(tmp_path, forgetful):
    rows = {name_of(row): row["image_id"] for row in normals(forgetful).to_pylist()}
    names = ["02.jpg", "03.jpg", "04.jpg"]
    ids = [rows[name] for name in names]
    padim.forget(forgetful, image_ids=ids[:2])
    places = [Path(forgetful.archive.url) / "train/good" / name for name in names]
    for place in places[:2]:
        place.rename(tmp_path / place.name)
    draw(places[0], 77)

    def planned() -> tuple[int, str]:
        padim.index(forgetful)
        plan = plan_fit(forgetful, ignore, None)
        images = sum(job.size if merged else -job.size for job, merged in plan.merged())
        return images, " ".join(plan.warnings)

    images, said = planned()
    assert images == NORMAL - 1, "only the one that is not there"
    assert f"1 forgotten image was replaced: the fit uses what is there now ({ids[0]})" in said
    assert "1 forgotten image not among the normal images now" in said
    assert "left out" not in said
    by_id = with_fit(forgetful, without=ids[:1])
    assert "replaced" not in " ".join(plan_fit(by_id, ignore, None).warnings)
    found = padim.forget(forgetful, image_ids=[ids[0], ids[1], ids[2]], note="that one too")
    assert (found.images, found.forgotten, found.groups) == (3, 4, {"all": NORMAL - 3})
    for place in places[:2]:
        (tmp_path / place.name).rename(place)
    images, said = planned()
    assert images == NORMAL - 3, "the restored ones are still forgotten"
    assert "3 forgotten images left out of the fit" in said
    assert "1 forgotten image not among the normal images now" in said
    back = padim.forget(forgetful, image_ids=ids, undo=True)
    assert (back.forgotten, back.groups) == (0, {"all": NORMAL})


def test_a_part_whose_images_are_all_forgotten_is_not_needed(forgetful):
    rows = {name_of(row): row["image_id"] for row in normals(forgetful).to_pylist()}
    first = [image_id for name, image_id in sorted(rows.items())][:12]
    found = padim.fit(with_fit(forgetful, without=first))
    assert (found.images, found.groups) == (NORMAL - 12, {"all": NORMAL - 12})
    head = json.loads(
        (Path(forgetful.workspace) / f"fits/{found.fit_id}/fit.json").read_text("utf-8")
    )
    assert [part["merged"] for part in head["parts"]].count(True) < 3


def test_ids_that_nobody_knows_are_refused(forgetful):
    unknown = "0123456789abcdef"
    with pytest.raises(RequestError, match=f"1 id not of a normal image of the fit: {unknown}"):
        padim.forget(forgetful, image_ids=[unknown])
    with pytest.raises(RequestError, match="1 id not of a forgotten image"):
        padim.forget(forgetful, image_ids=[unknown], undo=True)
    with pytest.raises(RequestError, match=r"the archive has no image 'no/such\.png'"):
        padim.forget(forgetful, image_ids=["no/such.png"])
    with pytest.raises(RequestError, match="name the images to forget"):
        padim.forget(forgetful, image_ids=[])
    with pytest.raises(RequestError, match=f"fit.without names {unknown}, but no normal image"):
        padim.fit(with_fit(forgetful, without=[unknown]))
    with pytest.raises(ConfigError, match="'without' needs a 'window' for days"):
        with_fit(forgetful, without=["7"])


def test_an_image_that_has_changed_cannot_be_taken_out(tmp_path, forgetful):
    rows = normals(forgetful).to_pylist()
    read = next(row for row in rows if row["score"] is None)
    Path(read["uri"]).rename(tmp_path / "away.jpg")
    with pytest.raises(RequestError, match=f"{read['image_id']} cannot be taken out of the fit"):
        padim.forget(forgetful, image_ids=[read["image_id"]])
    assert padim.fit(forgetful).groups == {"all": NORMAL}
    (tmp_path / "away.jpg").rename(read["uri"])


def test_suspects_are_listed_and_drawn(tmp_path, warned, dropped):
    picture = tmp_path / "suspects.png"
    found = padim.suspects(warned, out=str(picture))
    assert (found.images, found.in_model, found.dropped) == (NORMAL, 2, 0)
    assert {Path(one.image).name for one in found.suspects} == set(BAD)
    assert all(one.image.startswith("train/good/") for one in found.suspects)
    assert found.suspects[0].times_median > 1.5
    with Image.open(picture) as image:
        assert image.size[0] > 800
    of_dropped = padim.suspects(dropped, n=1, out=str(picture))
    assert (of_dropped.in_model, of_dropped.dropped) == (0, 2)
    assert [one.dropped for one in of_dropped.suspects] == [True]
    with pytest.raises(RequestError, match="the name of a picture ends in"):
        padim.suspects(warned, out="suspects.gif")
    assert not found.notes
    first, _ = found.suspects
    padim.label(warned, images=[first.image], verdict="defect", kind="glass")
    again = padim.suspects(warned)
    assert [(one.verdict, one.kind) for one in again.suspects] == [
        ("defect", "glass"),
        (None, None),
    ]
    (note,) = again.notes
    assert "'padim-dist forget ID'" in note


def test_the_view_has_the_normal_images_of_all_models(dropped):
    query = 'SELECT "group", count(*), sum(dropped::int) FROM normals GROUP BY ALL'
    assert padim.query(dropped, sql=query).rows == [["all", NORMAL, 2]]


def test_without_scores_there_are_no_suspects(tmp_path, archive, scheduler):
    config = config_of(tmp_path, archive, scheduler, fit={"parts": 3, "sample": 0})
    found = padim.fit(config)
    assert "fit.sample is 0" in " ".join(found.warnings)
    assert padim.suspects(config).notes[0].startswith("suspects are not known")
    assert normals(config).num_rows == NORMAL
    padim.score(config)  # its images are judged by all others nevertheless
    rows = scores(config)
    assert sum(row["left_out"] for row in rows) == NORMAL
    assert {row["p_value"] for row in rows} == {None}
    with pytest.raises(ConfigError, match="set 'sample' to 1 or more"):
        with_fit(config, suspects="drop")


def test_two_images_cannot_be_left_out(tmp_path, scheduler):
    for i in range(2):
        draw(tmp_path / "archive/train/good" / f"{i}.jpg", i)
    config = config_of(tmp_path, tmp_path / "archive", scheduler, fit={"suspects": "drop"})
    assert padim.fit(config).groups == {"all": 2}
    padim.score(config)
    assert [row["left_out"] for row in scores(config)] == [False, False]


def test_reviewed_images_join_and_leave(tmp_path, warned, scheduler):
    """The model is that of an archive in which people have put the images where they belong."""
    root = tmp_path / "archive"
    shutil.copytree(warned.archive.url, root)
    config = config_of(tmp_path, root, scheduler, fit={"parts": 3, "reviewed": True})
    padim.index(config)
    images = padim.query(config, sql="SELECT image_id, uri, etag FROM images").rows
    ids = {Path(uri).name: (image_id, etag) for image_id, uri, etag in images}
    verdicts: list[tuple[str, VerdictName]] = [("new.png", OK), *((name, DEFECT) for name in BAD)]
    reviews = [Review(image_id=ids[n][0], verdict=v, etag=ids[n][1]) for n, v in verdicts]
    reviews.append(Review(image_id=ids["00.jpg"][0], verdict=DEFECT, etag="of another file"))
    add_reviews(workspace_of(config), "ann", "", None, reviews)
    found = padim.fit(config)
    assert found.groups == {"all": NORMAL - len(BAD) + 1}
    wanted = "1 confirmed normal image joined the fit, 2 confirmed defects left it"
    assert wanted in " ".join(found.warnings)
    assert "new.png" in {name_of(row) for row in normals(config).to_pylist()}
    manifest = current_manifest(config, ignore)
    joined, unknown = ids["new.png"], "0123456789abcdef"
    assert find_normal(config, manifest, [joined[0], unknown]) == {ImageObject(*joined)}
    assert padim.forget(config, image_ids=[joined[0]]).groups == {"all": NORMAL - len(BAD)}
    assert padim.forget(config, image_ids=[joined[0]], undo=True).model_id == found.model_id
    (root / "test/good/new.png").rename(root / "train/good/new.png")
    for name in BAD:
        (root / "train/good" / name).unlink()
    sorted_out = config_of(tmp_path / "sorted", root, scheduler)
    padim.fit(sorted_out)
    names = [name for name in arrays(sorted_out) if "/calibration/" not in name]
    found_arrays, wanted_arrays = arrays(config), arrays(sorted_out)
    assert_close({n: found_arrays[n] for n in names}, {n: wanted_arrays[n] for n in names})
