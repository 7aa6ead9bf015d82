"""Which converted network a trunk has, for an archive and its settings.

The network itself is kept by its content, as weights are. It is found once: every later fit uses
the same one, so that moments of earlier nights go with those of later ones, whatever images have
come since, and whatever versions of the packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

from padim_dist.store.records import find_receipt, find_record, unless_damaged
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class ConvertedNetwork:
    """A converted network, and what it was made from.

    Attributes
    ----------
    weights : str
        Content address of its files (`padim_dist.store.weights`).
    images : mapping of str to str or None
        Ids and etags of the images that it was quantised on; empty: it is not quantised.
    versions : mapping of str to str
        Versions of the packages that made it.
    made_at : str
        When it was made.
    """

    weights: str
    images: Mapping[str, str | None]
    versions: Mapping[str, str]
    made_at: str


def find_network(workspace: Workspace, asked: str) -> ConvertedNetwork | None:
    """Return the network for the id of what is asked for; None: none yet, or its files are gone."""
    path = workspace.network(asked)
    found = find_receipt(workspace.folder, path, ConvertedNetwork)
    if found is None or workspace.folder.exists(workspace.weights(found.weights)):
        return found
    workspace.folder.remove(path)  # so that another one can be put
    return None


def put_network(workspace: Workspace, asked: str, network: ConvertedNetwork) -> ConvertedNetwork:
    """Say which network there is from now on; return it, or the one of another fit."""
    if workspace.folder.create_json(workspace.network(asked), asdict(network)):
        return network
    found = find_network(workspace, asked)
    assert found is not None
    return found


def is_converted(workspace: Workspace, weights: str) -> bool:
    """Return whether weights are a converted network."""
    folder = workspace.folder
    paths = [workspace.network(name.removesuffix(".json")) for name in folder.list("networks")]
    reads = (partial(find_record, folder, path, ConvertedNetwork) for path in paths)
    records = (unless_damaged(read) for read in reads)
    return any(record is not None and record.weights == weights for record in records)
