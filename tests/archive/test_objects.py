from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass, replace

import fsspec
import pytest

from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.objects import ObjectFetcher, RetryPolicy
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.requests import Request
from padim_dist.bodies import Body, object_tag
from padim_dist.core.geometry import InputGeometry
from padim_dist.errors import ImageError, RunError
from padim_dist.storage import Folder
from tests.archive.rows import image_row

HASTY = RetryPolicy(attempts=3, first=0.0)
DATA = bytes(range(256)) * 4


def members(uri, count: int = 4) -> Request:
    """Return one request for members of 100 bytes."""
    rows = tuple(image_row(uri, 100, member=str(i), offset=100 * i) for i in range(count))
    return Request(str(uri), rows, 0, 100 * count)


@dataclass(frozen=True)
class Scripted:
    """Replaces `Folder.read_body`: gives answers and errors in turn, then repeats the last."""

    answers: list

    def __call__(self, folder, name, start=None, stop=None, timeout=None) -> Body:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return replace(answer, data=answer.data[start:stop])


def answer(monkeypatch: pytest.MonkeyPatch, *answers: object) -> list:
    """Let the store give these answers; return the scripted reader."""
    script = Scripted(list(answers))
    monkeypatch.setattr(Folder, "read_body", lambda *args, **more: script(*args, **more))
    return script.answers


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_range_is_that_of_the_object_that_was_indexed(tmp_path, where):
    uri = str(tmp_path / "x.tar") if where == "disk" else "memory://objects/x.tar"
    fs, path = fsspec.core.url_to_fs(uri)
    fs.pipe_file(path, DATA)
    tag = object_tag(fs.info(path))
    request = members(uri)
    request = replace(request, rows=tuple(replace(row, etag=tag) for row in request.rows))
    fetched = ObjectFetcher({}).fetch(request)
    assert fetched == [DATA[100 * i : 100 * (i + 1)] for i in range(4)]
    fs.pipe_file(path, DATA[:-1])
    with pytest.raises(ImageError, match="index the archive again") as caught:
        ObjectFetcher({}).fetch(request)
    assert caught.value.status == "changed"


def test_a_body_that_differs_from_its_checksum_is_read_again(monkeypatch):
    md5 = hashlib.md5(DATA).hexdigest()
    sound = Body(DATA, None, md5)
    wrong = [Body(bytes([i]) + DATA[1:], None, md5) for i in (1, 2)]
    request = Request("s3://b/x", (image_row("s3://b/x", len(DATA)),))
    fetcher = ObjectFetcher({}, retry=HASTY)
    answer(monkeypatch, wrong[0], sound)
    assert fetcher.fetch(request) == [DATA]
    answer(monkeypatch, wrong[0], wrong[0])
    assert fetcher.fetch(request) == [wrong[0].data]
    answer(monkeypatch, wrong[0], wrong[1], wrong[0])
    with pytest.raises(ImageError, match=rf"unavailable: .*instead of {md5}"):
        fetcher.fetch(request)
    answer(monkeypatch, Body(DATA[:9], None), sound)  # too short
    assert fetcher.fetch(request) == [DATA]


def test_lack_of_memory_is_not_retried(monkeypatch):
    answer(monkeypatch, MemoryError())
    with pytest.raises(RunError, match=r"ran out of memory .* 1024 bytes .* cluster\.workers"):
        ObjectFetcher({}).fetch(Request("s3://b/x", (image_row("s3://b/x", len(DATA)),)))


def test_a_bad_disk_block_harms_only_the_member_on_it(monkeypatch, tmp_path):
    def read(folder, name, start=None, stop=None, timeout=None) -> Body:
        if start <= 150 < stop:
            raise OSError(errno.EIO, "Input/output error")
        return Body(DATA[start:stop], None)

    monkeypatch.setattr(Folder, "read_body", read)
    reader = ImageReader(ObjectFetcher({}), InputGeometry((72, 72), (64, 64)), 10**6)
    rows = [replace(row, size=1024) for row in members(tmp_path / "x.tar", 3).rows]
    images = list(read_ahead(rows, Reading(reader, 2, 1), 8))
    assert [image.status for image in images] == ["unreadable", "unavailable", "unreadable"]
    assert images[1].error == "cannot be read, though the store is well: Input/output error"


def test_users_options_override_ours():
    """And they are not changed."""
    mine = {"retries": {"max_attempts": 0}, "max_pool_connections": 3}
    given = {"s3": {"endpoint_url": "http://127.0.0.1:1", "config_kwargs": mine}}
    fs = Folder("s3://bucket/x", given).fs
    assert fs.config_kwargs["max_pool_connections"] == 3
    assert fs.config_kwargs["parameter_validation"] is False
    assert mine == {"retries": {"max_attempts": 0}, "max_pool_connections": 3}
