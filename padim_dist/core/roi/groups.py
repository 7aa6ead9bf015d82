"""Embeddings of groups, some of which have a region of interest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from padim_dist.core.spec import EmbeddingSpec

Inside = Mapping[str, Sequence[int]]
"""Regions of interest by group, as in `PyramidShape`; other groups are judged whole."""


def embedding_of(spec: EmbeddingSpec, inside: Inside, group: str | None) -> EmbeddingSpec:
    """Return the embedding of a group, given that of whole pictures."""
    runs = inside.get(group) if group is not None else None
    return spec if runs is None else spec.within(tuple(runs))


def largest_embedding(spec: EmbeddingSpec, inside: Inside, groups: Iterable[str]) -> EmbeddingSpec:
    """Return the embedding of the group that needs the most memory."""
    specs = (embedding_of(spec, inside, group) for group in groups)
    return max(specs, key=lambda one: one.shape.numbers, default=spec)
