"""How the images of each group of a model are aligned."""

from __future__ import annotations

from dataclasses import replace

from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.core.align.reference import Reference
from padim_dist.core.align.search import Aligner
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.store.models import ModelInfo
from padim_dist.store.pictures.references import kept_reference, kept_references
from padim_dist.store.workspace import Workspace


def aligning(
    reader: ImageReader, embedding: EmbeddingSpec, reference: Reference | None
) -> ImageReader:
    """Return a reader that aligns images with the reference of their group, if there is one."""
    align = embedding.align
    if align is None or reference is None:
        return reader
    return replace(reader, aligner=Aligner(reference, align.shift, align.rotate))


def aligning_ahead(
    reading: Reading, embedding: EmbeddingSpec, reference: Reference | None
) -> Reading:
    """Return how workers read the images of a group; see `aligning`."""
    return replace(reading, reader=aligning(reading.reader, embedding, reference))


def references_of(workspace: Workspace, info: ModelInfo) -> dict[str, Reference]:
    """Return the references of a model by group. Raises `DamagedFileError`."""
    kept = kept_references(workspace, info.references.values())
    return {group: kept[digest] for group, digest in info.references.items()}


def aligning_of(
    reader: ImageReader, workspace: Workspace, info: ModelInfo, group: str
) -> ImageReader:
    """Return a reader that reads images as a model does those of a group."""
    digest = info.references.get(group)
    reference = kept_reference(workspace, digest) if digest else None
    return aligning(reader, info.embedding, reference)
