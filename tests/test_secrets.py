"""No secret of an address or of a configuration is stored, shown or logged."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.api.settings.places import archive_settings, asked_settings, model_settings
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.cli.app import app
from padim_dist.config import load_config, make_config
from padim_dist.engine.examine import examine_shard
from padim_dist.engine.score import _row
from padim_dist.engine.score_job import ScoreJob
from padim_dist.engine.source import ShardSource
from padim_dist.errors import (
    ArchiveError,
    ConfigError,
    HeldError,
    ImageError,
    RequestError,
    ResourceError,
    RunError,
    WeightsError,
)  # fmt: skip
from padim_dist.events import TaskFailed, TaskRetried
from padim_dist.redaction import redacted
from padim_dist.storage import Folder
from padim_dist.store.workspace import content_id
from tests.archive.rows import image_row
from tests.names import SECRET

URLS = [
    "https://me:MARKED@host/a",
    "https://me:MARK@MARKED@host/a",
    "https://MARKED@host/a",
    "http://:MARKED@host:80/a?x=1",
    "ftp://me:MARKED/slash@host/a",
    "sftp://me:MARKED?x@host/a",
    "s3://key:MARKED@bucket/a",
    "https://host/a?sig=MARKED&se=2026",
    "https://host/a?id=7&X-Amz-Signature=MARKED&X-Amz-Credential=MARKED%2Fus",
    "https://host/a?AWSAccessKeyId=MARKED;Signature=MARKED",
    "https://host/a#access_token=MARKED",
    "https://host/a?url=https://host/b?sig=MARKED",
    "simplecache::https://me:MARKED@host/a",
    "2https://MARKED@host/a",
    "s3://bucket/-https://host/a?b?token=MARKED",
    "x://host/https://me:MARKED/slash@host/a?sig=MARKED&x=ftp://me:MARKED@host/b",
    "s3://bucket/https://me:MARKED@host/a",
    "-----BEGIN EC PRIVATE KEY-----\nMARKED\n-----END EC PRIVATE KEY-----",
]
HARMLESS = [
    "/data/a@b:c?.jpg", "s3://bucket/what?.jpg", "s3://bucket/a@b/c.jpg", "file:///a%20b@c.jpg",
    "abfs://container@account.dfs.core.windows.net/a", "hdfs://me@host:8020/a",
    "tcp://127.0.0.1:8786", "http://host:8080/@eaDir/x", "http://[::1]:80/@x",
    "https://host/a?id=7&page=2", "gs://b/a&b=c.jpg", "me@host.example", "a://", "://", "1://x:y@",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("around", ["{}", "no '{}' here", "a\n{}\nb", '{{"url": "{}"}}', "({}), x"])
def test_a_secret_is_hidden(url, around):
    text = around.format(url)
    found = redacted(text)
    assert SECRET not in found
    assert "…" in found
    assert redacted(found) == found
    assert found.startswith(around.format("\0").split("\0")[0])
    assert "PRIVATE" in url or "host" in found or "bucket" in found


@pytest.mark.parametrize("url", HARMLESS)
def test_an_address_without_a_secret_stays(url):
    assert redacted(f"no {url} here") == f"no {url} here"
    config = make_config({"workspace": "ws", "archive": {"url": url}})
    assert archive_settings(config)["url"] == Folder(url).url


@given(st.text())
def test_any_text_is_redacted(text):
    assert isinstance(redacted(text), str)
    assert "://" in text or "PRIVATE" in text or redacted(text) == text


PIECES = st.sampled_from(
    ["a", "https", "://", ":", "@", "/", "?", "&", "=", "#", "[", "sig", "1", " "]
)


@given(
    before=st.lists(PIECES, max_size=12).map("".join),
    url=st.sampled_from(URLS),
    after=st.lists(PIECES, max_size=12).map("".join),
)
def test_a_secret_is_hidden_in_any_surroundings(before, url, after):
    """Also among parts of other addresses."""
    assert SECRET not in redacted(f"{before} {url} {after}")
    assert SECRET not in redacted(f"{before}/{url}?{after}")


@pytest.mark.parametrize(
    ("piece", "end"),
    [
        ("a://", ""),
        ("a://", "@"),
        ("?a", ""),
        ("?a=", ""),
        ("?sig=", ""),
        ("u:px://", ""),
        ("u:px://", "@"),
        (":u@x://", ""),
        ("a", "://"),
        ("1", "://x@"),
        ("sig", "=b"),
        ("@", ""),
        ("-----BEGIN ", "PRIVATE KEY-----"),
        ("-----BEGIN PRIVATE KEY-----", ""),
    ],
)
def test_a_long_text_is_redacted(piece, end):
    """In one pass: a search that starts anew at each piece would take minutes."""
    planted = f"x://me:{SECRET}@host/x://{piece * 100_000}{end} https://host?sig={SECRET}"
    found = redacted(planted)
    assert SECRET not in found
    assert found.startswith("x://…@host/x://")
    assert found.endswith("…")


@pytest.mark.parametrize("url", URLS[:7])
def test_settings_hold_no_secret_and_a_new_password_is_no_new_archive(url):
    def settings(url: str) -> list[object]:
        tree = {"workspace": "ws", "archive": {"url": url}, "model": {"weights": f"{url}/w.pth"}}
        config = make_config(tree)
        return [archive_settings(config), model_settings(config), asked_settings(config)]

    assert SECRET not in str(settings(url))
    assert settings(url.replace(SECRET, "other")) == settings(url)
    for one, other in zip(settings(url), settings(url + "2"), strict=True):
        assert content_id(one) != content_id(other)


@pytest.mark.parametrize(
    "kind",
    [ArchiveError, ConfigError, HeldError, RequestError, ResourceError, RunError, WeightsError],
)
def test_messages_hold_no_secret(kind):
    error = kind(f"cannot read {URLS[0]}")
    again = kind(*error.args) if kind is ResourceError else pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert str(one) == "cannot read https://…@host/a"
        assert SECRET not in repr(one)


def test_a_row_s_reason_and_events_hold_no_secret():
    error = ImageError("missing", f"cannot read {URLS[0]}")
    assert (error.status, error.reason) == ("missing", "cannot read https://…@host/a")
    for kind in (TaskRetried, TaskFailed):
        assert SECRET not in str(kind("score", "shard 1", f"cannot read {URLS[0]}"))


def test_an_image_that_was_set_aside_and_its_row_hold_no_secret(tmp_path):
    """The reason names a file of the workspace, whose address may have a password."""
    folder, row = Folder(str(tmp_path)), image_row("a.jpg", image_id="i")
    folder.put_json("aside.json.journal", {"next": 0, "deaths": 1, "refused": {}})
    workspace = SimpleNamespace(folder=folder, at=lambda path: f"{URLS[0]}/{path}")
    shard = {"set_aside_path": "aside.json", "read": lambda: [row], "workspace": workspace}
    assert examine_shard(cast("ShardSource", SimpleNamespace(**shard))) == 1
    assert "https://…@host/a/aside.json is removed" in folder.read_json("aside.json")["i"]
    run = SimpleNamespace(run_id="r")
    job = cast("ScoreJob", SimpleNamespace(run=run, model_id="m", place=0, time=None))
    told = _row(LoadedImage(row, status="missing", error=f"no {URLS[0]}"), job)
    assert told.error == "no https://…@host/a"
    assert _row(LoadedImage(row), job).error is None


def test_log_records_hold_no_secret(caplog):
    logger = logging.getLogger("padim_dist")
    try:
        raise OSError(f"cannot read {URLS[0]}")
    except OSError as error:
        logger.exception("%s: %s", URLS[7], error)
    logger.error(URLS[0])
    assert SECRET not in caplog.text
    assert caplog.text.count("…@host") >= 3


def test_objects_are_shown_without_options():
    options = {"s3": {"secret": SECRET}}
    config = make_config({"workspace": "ws", "archive": {"url": "a"}, "storage_options": options})
    assert SECRET not in f"{config!r} {config} {padim.Config.model_validate(config)!r}"
    assert SECRET not in repr(Folder("s3://b", options))


WRONG = [
    "storage_options: {s3: MARKED}",
    "storage_options: [MARKED]",
    "storage_options: MARKED",
    "storage_options: {s3: {secret: MARKED}}\ncluster: [MARKED, ",
    "storage_options: {s3: {secret: 'MARKED}}",
    "archive: {url: 'https://me:MARKED@host/a', layout: 'https://me:MARKED@host/a'}",
    "archive: {url: {a: 'https://me:MARKED@host/a'}}",
    "model: {weights: ['https://me:MARKED@host/a']}",
    "MARKED",
    "- MARKED",
    "{? {secret: MARKED} : 1}",
]


@pytest.mark.parametrize("text", WRONG)
def test_errors_of_a_configuration_do_not_repeat_secrets(tmp_path, text):
    path = tmp_path / "audit.yaml"
    path.write_text(text if text[0] not in "sam" else f"workspace: ws\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "override",
    [
        "storage_options.s3.secret: MARKED",
        "storage_options.s3=MARKED",
        "storage_options.s3.secret={MARKED",
        "workspace.secret=MARKED",
        "archive.url=[https://me:MARKED@host/a]",
    ],
)
def test_errors_of_an_override_do_not_repeat_secrets(tmp_path, override):
    path = tmp_path / "audit.yaml"
    path.write_text("workspace: ws\narchive: {url: a}\n")
    shown = CliRunner().invoke(app, ["index", "-c", str(path), "--set", override])
    assert shown.exit_code == 2
    assert SECRET not in shown.output
    assert "--set" in shown.output or "archive.url" in shown.output or "storage" in shown.output


def test_no_command_shows_or_stores_a_secret(tmp_path):
    """The archive is an address with a password that nobody answers."""
    tree = {
        "workspace": str(tmp_path / "ws"),
        "archive": {"url": "ftp://me:MARKED@127.0.0.1:9/a"},
        "storage_options": {"ftp": {"timeout": 1, "password": SECRET}},
        "model": {"weights": "http://me:MARKED@127.0.0.1:9/w?sig=MARKED"},
    }
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(tree))
    for command in (["index"], ["doctor"], ["doctor", "--json"], ["score", "--log-json"], ["fit"]):
        shown = CliRunner().invoke(app, [*command, "-c", str(path)])
        assert shown.exit_code in (0, 1, 2)
        assert SECRET not in shown.output, command
    stored = [file for file in (tmp_path / "ws").rglob("*") if file.is_file()]
    assert not [file for file in stored if SECRET in Path(file).read_bytes().decode("latin-1")]
