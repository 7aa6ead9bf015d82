"""The receipt of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from padim_dist.core.align.motion import Motion
from padim_dist.core.pictures.forms import CountedForm
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class Failure:
    """An image of a part that is not in its moments."""

    image_id: str
    uri: str
    status: str
    error: str | None


@dataclass(frozen=True)
class KeptPart:
    """The receipt of a part.

    Attributes
    ----------
    images, fitted, sampled : int
        Images of the part, images in the moments, and images whose embeddings are kept.
    moments : str
        Path of the part in the workspace: a Zarr group with moments, a sample, or both.
    failures : sequence of Failure
        Images that are not in the moments.
    brightest : int or None
        Highest level (0 to 255) of the images in the moments; None in those of version 0.2.
    motions : sequence of (Motion or None), or None
        How the images in the moments lay, None for one that could not be aligned; None if images
        are not aligned.
    forms : sequence of CountedForm
        The most common forms of the images in the moments; none in those of version 0.5.
    """

    images: int
    fitted: int
    sampled: int
    moments: str
    failures: Sequence[Failure]
    brightest: int | None = None
    motions: Sequence[Motion | None] | None = None
    forms: Sequence[CountedForm] = ()


def part_advice(workspace: Workspace, path: str) -> str:
    """Return what to do about damaged files of a part: their name begins with its receipt's."""
    receipt = workspace.at(f"{path.rpartition('-')[0]}.json")
    return (
        f"Remove {receipt} and run 'padim-dist fit' again: it embeds the images of the part again"
    )
