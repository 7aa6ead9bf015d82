"""How many images are in memory together: pure functions of the embedding.

They are part of the last bits of results, so they never depend on the machine.
"""

from __future__ import annotations

from math import prod

from padim_dist.core.spec import EmbeddingSpec

IN_NOISE = 64
"""Images from which the sampling noise of a group's mean is estimated."""
_LEFT_OUT = 64
_LEFT_OUT_BYTES = 512 * 2**20
_UPDATE, _LARGE = 8, 512**2


def left_out_together(spec: EmbeddingSpec) -> int:
    """Return the images that are left out together: 64, fewer if they are large.

    Their embeddings and anomaly maps have at most 512 MiB.
    """
    image = 4 * (sum(spec.shape.sizes) + prod(spec.geometry.crop))
    return max(1, min(_LEFT_OUT, _LEFT_OUT_BYTES // image))


def added_together(spec: EmbeddingSpec) -> int:
    """Return the images whose embeddings are added to moments together.

    It is a batch; of pictures larger than 512x512 as many batches as have 8 images. Adding reads
    and writes all moments, whatever the number of images: with a batch of 1 it would take longer
    than the trunk.
    """
    is_large = prod(spec.geometry.crop) > _LARGE
    return -(-_UPDATE // spec.batch) * spec.batch if is_large else spec.batch
