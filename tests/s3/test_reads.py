"""Reads by obstore: which stores, and that all else stays as with s3fs alone."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import fsspec
import obstore
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import FlexibleChecksumError
from obstore.store import S3Store

from padim_dist.archive.reading.threads import within
from padim_dist.s3 import client, reads
from padim_dist.s3.access import Access, ClientSettings, access_of
from padim_dist.s3.client import credentials_of, open_store
from padim_dist.storage import Folder
from tests.s3.proxy import FaultProxy

# HTTP clients leave connections open when their server stops.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PLACE = ("http://127.0.0.1:9000", "eu-west-1")
TIMEOUT = 30.0
CONTENT = bytes(range(256)) * 40
IS_INTERRUPTIBLE = reads._is_interruptible


@pytest.mark.parametrize(
    ("options", "is_signed", "pays"),
    [
        ({}, True, False),
        ({"endpoint_url": PLACE[0], "use_listings_cache": False}, True, False),
        ({"key": "k", "secret": "s", "token": "t"}, True, False),
        ({"profile": "factory", "requester_pays": True}, True, True),
        ({"anon": True, "client_kwargs": {"region_name": "eu-west-1"}}, False, False),
        ({"config_kwargs": {"signature_version": "s3v4"}, "use_ssl": False}, True, False),
        ({"config_kwargs": {"retries": {}, "s3": {"addressing_style": "path"}}}, True, False),
    ],
)
def test_plain_settings_are_for_obstore(options, is_signed, pays):
    assert access_of(ClientSettings(options, *PLACE)) == Access(*PLACE, is_signed, pays)


@pytest.mark.parametrize(
    "settings",
    [
        ClientSettings({"client_kwargs": {"verify": False}}, *PLACE),
        ClientSettings({"client_kwargs": {"verify": "ca.pem"}}, *PLACE),
        ClientSettings({"client_kwargs": {"aws_access_key_id": "k"}}, *PLACE),
        ClientSettings({"config_kwargs": {"proxies": {"http": "http://proxy"}}}, *PLACE),
        ClientSettings({"config_kwargs": {"signature_version": "s3"}}, *PLACE),
        ClientSettings({"config_kwargs": {"client_cert": "me.pem"}}, *PLACE),
        ClientSettings({"s3_additional_kwargs": {"SSECustomerKey": "x"}}, *PLACE),
        ClientSettings({"session": object()}, *PLACE),
        ClientSettings({"version_aware": True}, *PLACE),
        ClientSettings({"cache_regions": True}, *PLACE),
        ClientSettings({"key": "k"}, *PLACE),
        ClientSettings({"an_option_of_a_later_version": 1}, *PLACE),
        ClientSettings({}, *PLACE, s3={"addressing_style": "virtual"}),
        ClientSettings({}, *PLACE, s3={"use_accelerate_endpoint": True}),
        ClientSettings({}, *PLACE, has_proxy=True),
        ClientSettings({}, *PLACE, is_variant=True),
        ClientSettings({}, "https://s3.example.org", "x", ca_bundle="/etc/ssl/factory.pem"),
        ClientSettings({}, "http://s3.example.org/behind/a/path", "x"),
        ClientSettings({}, "http://me:secret@s3.example.org", "x"),
        ClientSettings({}, "unix:///run/s3", "x"),
    ],
)
def test_all_other_settings_are_for_s3fs(settings):
    assert access_of(settings) is None


@pytest.fixture
def place(server, monkeypatch) -> tuple[fsspec.AbstractFileSystem, Folder]:
    """A file system of an own instance, and the folder ``s3://reads/a``, of no lane yet."""
    monkeypatch.setattr(reads, "_lanes", {})
    options = {"endpoint_url": f"http://{server[0]}:{server[1]}"}
    fs = fsspec.filesystem("s3", **options, skip_instance_cache=True, use_listings_cache=False)
    if not fs.exists("reads"):
        fs.mkdir("reads")
    fs.pipe_file("reads/a/first.bin", CONTENT)
    return fs, Folder("s3://reads/a", {"s3": options})


@pytest.fixture
def by_obstore(monkeypatch) -> Counter:
    """Counts reads by obstore, by key."""
    seen: Counter[str] = Counter()
    usual = S3Store.get

    def get(self, path, **more):
        seen[path] += 1
        return usual(self, path, **more)

    monkeypatch.setattr(S3Store, "get", get)
    return seen


def test_both_clients_read_the_same(place, by_obstore):
    fs, folder = place
    first = folder.read_body("first.bin", timeout=TIMEOUT)
    assert not by_obstore
    # obstore's body has been checked.
    assert folder.read_body("first.bin", timeout=TIMEOUT) == replace(first, md5=None)
    assert (first.data, first.tag) == (CONTENT, first.md5)
    part = folder.read_body("first.bin", 100, 300, timeout=TIMEOUT)
    assert (part.data, part.tag, part.md5) == (CONTENT[100:300], first.tag, None)
    assert by_obstore == {"a/first.bin": 2}
    fs.pipe_file("reads/a/first.bin", CONTENT[1:])
    assert folder.read_body("first.bin", timeout=TIMEOUT).tag != first.tag
    fs.pipe_file("reads/a/empty.bin", b"")
    assert folder.read_body("empty.bin", timeout=TIMEOUT).data == b""
    beyond = by_obstore.copy()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        folder.read_body("first.bin", 10**6, 10**6 + 5, timeout=TIMEOUT)
    assert caught.value.__cause__.response["Error"]["Code"] == "InvalidRange"
    with pytest.raises(FileNotFoundError):
        folder.read_body("nothing.bin", timeout=TIMEOUT)
    assert (by_obstore - beyond).keys() == {"a/first.bin", "a/nothing.bin"}


@pytest.fixture
def by_s3fs(monkeypatch) -> Counter:
    """Counts reads by s3fs, by key."""
    seen: Counter[str] = Counter()
    usual = reads._get

    def get(fs, bucket, key, start, stop):
        seen[key] += 1
        return usual(fs, bucket, key, start, stop)

    monkeypatch.setattr(reads, "_get", get)
    return seen


NAMES = ["ä b+c%20&=#?*'\"(1)~`^|{}[]<>,;:@$!.bin", "a%2Fb", "back\\slash", "u\u0308.bin"]
ONLY_S3FS = ["twice//there", "ends/", "a/../b", "./c", "bell\x07", "tab\tin"]


def test_every_name_is_the_same_object_to_both(place, by_obstore):
    fs, folder = place
    for name in [*NAMES, *ONLY_S3FS]:
        fs.call_s3("put_object", Bucket="reads", Key=f"a/{name}", Body=name.encode())
    folder.read_body("first.bin", timeout=TIMEOUT)
    for name in NAMES:
        assert folder.read_body(name, timeout=TIMEOUT).data == name.encode()
    assert by_obstore == {f"a/{name}": 1 for name in NAMES}
    for name in ONLY_S3FS:
        assert folder.read_body(name, timeout=TIMEOUT).data == name.encode()
    folder.read_body("first.bin", timeout=TIMEOUT)
    assert by_obstore["a/first.bin"] == 1, "obstore rests since it refuses names"


def test_the_environment_of_obstore_does_not_count(place, by_obstore, monkeypatch):
    """s3fs has found the settings; obstore would find others."""
    _, folder = place
    folder.read_body("first.bin", timeout=TIMEOUT)
    reads._lanes.clear()
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    monkeypatch.setenv("AWS_REGION", "elsewhere")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    for _ in range(2):
        assert folder.read_body("first.bin", timeout=TIMEOUT).data == CONTENT
    assert by_obstore == {"a/first.bin": 1}
    (lane,) = reads._lanes.values()
    assert lane._failures == 0


def test_obstore_rests_where_only_s3fs_can_read(place, by_obstore, monkeypatch, caplog):
    _, folder = place
    folder.read_body("first.bin", timeout=TIMEOUT)
    calls = []

    def fail(self, path, **more):
        calls.append(path)
        raise obstore.exceptions.GenericError("https://me:secret@proxy refuses\nDebug source")

    monkeypatch.setattr(S3Store, "get", fail)
    for _ in range(2):
        assert folder.read_body("first.bin", timeout=TIMEOUT).data == CONTENT
        with pytest.raises(FileNotFoundError):  # does not count
            folder.read_body("nothing.bin", timeout=TIMEOUT)
    with caplog.at_level(logging.INFO, "padim_dist"):
        assert folder.read_body("first.bin", timeout=TIMEOUT).data == CONTENT
    assert caplog.messages == ["s3fs reads s3://reads: obstore cannot (https://…@proxy refuses)"]
    assert len(calls) == 5
    assert folder.read_body("first.bin", timeout=TIMEOUT).data == CONTENT
    assert len(calls) == 5


def test_the_main_thread_reads_by_s3fs(place, by_obstore, monkeypatch):
    """Ctrl-C ends its reads."""
    _, folder = place
    monkeypatch.setattr(reads, "_is_interruptible", IS_INTERRUPTIBLE)
    for _ in range(2):
        assert folder.read_body("first.bin", timeout=TIMEOUT).data == CONTENT
    assert not by_obstore
    for _ in range(2):
        body = within(TIMEOUT, lambda: folder.read_body("first.bin", timeout=TIMEOUT))
        assert body.data == CONTENT
    assert by_obstore == {"a/first.bin": 1}


def test_s3fs_reads_if_obstore_does_not_start(place, by_obstore, monkeypatch, caplog):
    _, folder = place

    def fail(*_: object) -> None:
        raise ValueError("no such region")

    monkeypatch.setattr(reads, "open_store", fail)
    with caplog.at_level(logging.INFO, "padim_dist"):
        for _ in range(3):
            assert folder.read_body("first.bin", timeout=TIMEOUT).data == CONTENT
    assert caplog.messages == ["s3fs reads s3://reads: obstore cannot (no such region)"]
    assert not by_obstore


@pytest.fixture
def encrypted(place, server) -> Iterator[tuple[FaultProxy, Folder]]:
    """Folder that also has ``kms.bin``, whose etag looks like an MD5 and is none."""
    if os.environ.get("PADIM_TEST_S3"):
        pytest.skip("SKIPPED PART: this server has no keys")
    kms = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "11111111-2222-3333-4444-555555555555"}
    place[0].call_s3("put_object", Bucket="reads", Key="a/kms.bin", Body=CONTENT, **kms)
    with FaultProxy(*server) as proxy:
        yield proxy, Folder("s3://reads/a", {"s3": {"endpoint_url": proxy.url}})


@pytest.mark.parametrize("first", ["first.bin", "kms.bin"])
def test_etags_of_encrypted_objects_are_no_checksums(encrypted, by_obstore, by_s3fs, first):
    """In a bucket that has both kinds, whichever is read first."""
    _, folder = encrypted
    folder.read_body(first, timeout=TIMEOUT)
    by_s3fs.clear()
    for _ in range(2):
        for name in ("kms.bin", "first.bin"):
            body = folder.read_body(name, timeout=TIMEOUT)
            assert (body.data, body.md5) == (CONTENT, None)
    assert by_obstore == {"a/kms.bin": 2, "a/first.bin": 2}
    assert by_s3fs == {"a/kms.bin": 2}


def test_s3fs_reads_alone_where_all_is_encrypted(encrypted, by_obstore, by_s3fs):
    """Else each object would be read twice."""
    _, folder = encrypted
    for _ in range(6):
        assert folder.read_body("kms.bin", timeout=TIMEOUT).data == CONTENT
    assert by_obstore == {"a/kms.bin": 3}
    assert by_s3fs == {"a/kms.bin": 6}


def test_a_damaged_body_is_found_beside_encrypted_ones(encrypted, by_obstore):
    proxy, folder = encrypted
    folder.read_body("kms.bin", timeout=TIMEOUT)
    proxy.share, proxy.kinds = 1.0, ("corrupt",)
    with pytest.raises(FlexibleChecksumError):
        folder.read_body("first.bin", timeout=TIMEOUT)
    assert by_obstore == {"a/first.bin": 1}


@pytest.mark.parametrize(("patience", "requests"), [(0.25, 4), (0.9, 3)])
def test_the_deadline_is_that_of_both_together(
    place, server, by_obstore, monkeypatch, patience, requests
):
    """s3fs has what obstore leaves, and obstore's timeout counts whatever becomes of it."""
    monkeypatch.setattr(reads, "_PATIENCE", patience)
    with FaultProxy(*server) as proxy:
        folder = Folder("s3://reads/a", {"s3": {"endpoint_url": proxy.url}})
        folder.read_body("first.bin", timeout=TIMEOUT)  # the first request makes the client
        folder.read_body("first.bin", timeout=2.0)
        proxy.slow = "first.bin"
        with pytest.raises(TimeoutError):
            folder.read_body("first.bin", timeout=2.0)
        assert by_obstore == {"a/first.bin": 1}
        assert len(proxy.requests) == requests
        assert reads._lanes[folder.fs, "reads", 2.0]._failures == 1


def test_s3fs_reads_where_obstore_gets_no_answer(place, server, by_obstore, monkeypatch):
    """One connection that hangs costs a part of the deadline; several let obstore rest."""
    monkeypatch.setattr(reads, "_PATIENCE", 0.02)
    with FaultProxy(*server) as proxy:
        folder = Folder("s3://reads/a", {"s3": {"endpoint_url": proxy.url}})
        folder.read_body("first.bin", timeout=TIMEOUT)
        proxy.hung = "object_store"

        def read(_: int) -> bytes:
            return folder.read_body("first.bin", timeout=TIMEOUT).data

        with ThreadPoolExecutor(3) as threads:
            assert list(threads.map(read, range(3))) == [CONTENT] * 3
        assert proxy.faults["hung"]
        assert read(4) == CONTENT
        assert by_obstore == {"a/first.bin": 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_CA_BUNDLE", "/factory.pem"),
        ("REQUESTS_CA_BUNDLE", "/factory.pem"),
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "true"),
    ],
)
def test_the_environment_of_botocore_counts(monkeypatch, name, value):
    for other in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(other, raising=False)

    def store() -> object:
        fs = fsspec.filesystem("s3", key="k", secret="s", skip_instance_cache=True)
        return open_store(fs, "reads", TIMEOUT, TIMEOUT)

    assert store() is not None
    monkeypatch.setenv(name, value)
    assert store() is None


def test_credentials_are_botocores(place, tmp_path, monkeypatch):
    """Also of a profile, and once they have changed."""
    file = tmp_path / "credentials"
    file.write_text("[factory]\naws_access_key_id = one\naws_secret_access_key = two\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    fs, _ = place
    options = {"endpoint_url": fs.endpoint_url, "skip_instance_cache": True}
    profile = fsspec.filesystem("s3", profile="factory", **options)
    assert profile.s3.meta.endpoint_url == fs.endpoint_url
    found = credentials_of(profile, TIMEOUT)()
    assert (found["access_key_id"], found["secret_access_key"]) == ("one", "two")
    assert found["token"] is None
    given = fsspec.filesystem("s3", key="k", secret="s", token="t", **options)
    assert credentials_of(given, TIMEOUT)() == {
        "access_key_id": "k",
        "secret_access_key": "s",
        "token": "t",
        "expires_at": None,
    }


def test_credentials_are_asked_for_once(place, by_obstore, monkeypatch):
    """And are good until obstore asks again: botocore renews them early enough."""
    asked = []

    def counted(fs, timeout):
        usual = credentials_of(fs, timeout)
        return lambda: asked.append(1) or usual()

    monkeypatch.setattr(client, "credentials_of", counted)
    _, folder = place
    for _ in range(4):
        folder.read_body("first.bin", timeout=TIMEOUT)
        time.sleep(0.15)  # obstore never asks twice within 0.1 s
    assert by_obstore == {"a/first.bin": 3}
    assert len(asked) == 1
    renewed = RefreshableCredentials._mandatory_refresh_timeout
    assert timedelta(seconds=renewed) >= client._TRUSTED
