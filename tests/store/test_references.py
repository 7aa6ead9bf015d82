"""References of a workspace, of stores that fail and of files that are damaged."""

from __future__ import annotations

import numpy as np
import pytest

from padim_dist.core.align.reference import Reference
from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder
from padim_dist.store.pictures.references import keep_reference, kept_reference, kept_references
from padim_dist.store.workspace import Workspace

REFERENCE = Reference.of(np.arange(96).reshape(8, 12), (80, 120))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(Folder(str(tmp_path)))


def test_a_reference_is_read_as_it_was_kept(workspace):
    digest = keep_reference(workspace, REFERENCE)
    assert kept_reference(workspace, digest) == REFERENCE
    assert kept_references(workspace, [digest, digest]) == {digest: REFERENCE}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _: None, "no such file"),
        (lambda _: b"", "No data left"),
        (lambda data: data[: len(data) // 2], "zip"),
        (lambda data: data.replace(b"size", b"sise"), "size"),
        (lambda data: data.replace(bytes(range(40, 60)), bytes(range(41, 61))), "CRC"),
    ],
    ids=["gone", "empty", "cut", "renamed", "changed"],
)
def test_a_damaged_reference_says_so(workspace, damage, said):
    digest = keep_reference(workspace, REFERENCE)
    path = workspace.reference(digest)
    data = damage(workspace.folder.read(path))
    workspace.folder.remove(path)
    if data is not None:
        workspace.folder.put(path, data)
    with pytest.raises(DamagedFileError, match=f"(?i){said}.*references"):
        kept_reference(workspace, digest)


@pytest.mark.parametrize("error", [PermissionError("denied"), TimeoutError(), OSError(5, "EIO")])
def test_a_store_that_fails_is_no_damage(workspace, monkeypatch, error):
    digest = keep_reference(workspace, REFERENCE)

    def read(folder, path):
        raise error

    monkeypatch.setattr(Folder, "read", read)
    with pytest.raises(type(error)) as raised:
        kept_reference(workspace, digest)
    assert raised.value is error
