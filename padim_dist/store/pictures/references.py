"""References: the pictures that images are aligned with, and which group has which.

A picture is stored by its content, as weights are. The median of a group's images is found once:
every later fit uses the same one, so that moments of earlier nights go with those of later ones.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from padim_dist.core.align.reference import Reference
from padim_dist.errors import DamagedFileError
from padim_dist.store.records import find_receipt
from padim_dist.store.workspace import Workspace

_THREADS = 8
_ADVICE = (
    "Restore it from a copy, or remove the models that need it and the folder references, and run "
    "'padim-dist fit': it finds references anew"
)


@dataclass(frozen=True)
class GroupReference:
    """The reference of a group: its content address, the images it was made of, and when."""

    digest: str
    images: int
    made_at: str


def keep_reference(workspace: Workspace, reference: Reference) -> str:
    """Write a reference into the workspace; return its content address."""
    path = workspace.reference(reference.digest)
    if not workspace.folder.exists(path):
        buffer = io.BytesIO()
        np.savez(buffer, pixels=reference.pixels, size=np.array(reference.size))
        workspace.folder.put(path, buffer.getvalue())
    return reference.digest


def kept_reference(workspace: Workspace, digest: str) -> Reference:
    """Read a reference that `keep_reference` wrote.

    Raises
    ------
    DamagedFileError
        If there is none, or its content is another one.
    OSError
        If the store fails.
    """
    path = workspace.reference(digest)
    file = workspace.at(path)
    try:
        data = workspace.folder.read(path)
    except FileNotFoundError:
        raise DamagedFileError(file, "there is no such file", _ADVICE) from None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            height, width = kept["size"].tolist()
            reference = Reference.of(kept["pixels"], (height, width))
    # All of the content: the bytes are in memory, so that no OSError is of the store.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedFileError(file, str(error) or type(error).__name__, _ADVICE) from None
    if reference.digest != digest:
        raise DamagedFileError(file, "its content does not match its name", _ADVICE)
    return reference


def kept_references(workspace: Workspace, digests: Iterable[str]) -> dict[str, Reference]:
    """Read references, by their content addresses; raises as `kept_reference`."""
    wanted = sorted(set(digests))
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda digest: kept_reference(workspace, digest), wanted)
        return dict(zip(wanted, found, strict=True))


def find_group_reference(workspace: Workspace, images: str, group: str) -> GroupReference | None:
    """Return which reference a group has, for an archive and a way of making it; None: none yet."""
    return find_receipt(workspace.folder, workspace.group_reference(images, group), GroupReference)


def find_group_references(
    workspace: Workspace, images: str, groups: Sequence[str]
) -> dict[str, GroupReference]:
    """Return which references groups have, of those that have one; see `find_group_reference`."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda group: find_group_reference(workspace, images, group), groups)
        return {group: one for group, one in zip(groups, found, strict=True) if one}


def put_group_reference(
    workspace: Workspace, images: str, group: str, reference: GroupReference
) -> GroupReference:
    """Say which reference a group has from now on; return it, or the one of another fit."""
    path = workspace.group_reference(images, group)
    if workspace.folder.create_json(path, asdict(reference)):
        return reference
    found = find_group_reference(workspace, images, group)
    assert found is not None
    return found
