"""Outcome of embedding a part of a fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from padim_dist.core.align.motion import Motion
from padim_dist.core.pictures.forms import CountedForm
from padim_dist.core.status import UNSETTLED
from padim_dist.store.parts.receipt import KeptPart


@dataclass(frozen=True)
class PartReceipt:
    """Outcome of a part: its moments and its unusable images.

    Attributes
    ----------
    done, fitted, sampled : int
        Images of the part, images in the moments, and images whose embeddings are kept.
    moments : str
        Path of the part in the workspace: a Zarr group with moments, a sample, or both.
    failures, unusable : mapping of str to int, frozenset of str
        Unusable images by status, and their ids.
    unreached : frozenset of str
        Ids of those that are not settled: another attempt may read them.
    example : str or None
        Reason of the first unusable image.
    brightest : int or None
        Highest level (0 to 255) of the usable images; None in receipts of older versions.
    motions : tuple of (Motion or None)
        How the usable images lay, None for one that could not be aligned; empty if images are not
        aligned.
    forms : sequence of CountedForm
        Their most common forms; none in receipts of older versions.
    """

    done: int
    fitted: int
    sampled: int
    moments: str
    failures: dict[str, int] = field(default_factory=dict)
    example: str | None = None
    unusable: frozenset[str] = frozenset()
    unreached: frozenset[str] = frozenset()
    brightest: int | None = None
    motions: tuple[Motion | None, ...] = ()
    forms: Sequence[CountedForm] = ()

    @classmethod
    def of(cls, kept: KeptPart) -> PartReceipt:
        """Return the outcome that a receipt tells."""
        failures = kept.failures
        return cls(
            done=kept.images,
            fitted=kept.fitted,
            sampled=kept.sampled,
            moments=kept.moments,
            failures=dict(Counter(failure.status for failure in failures)),
            example=f"{failures[0].uri}: {failures[0].error}" if failures else None,
            unusable=frozenset(failure.image_id for failure in failures),
            unreached=frozenset(f.image_id for f in failures if f.status in UNSETTLED),
            brightest=kept.brightest,
            motions=tuple(kept.motions or ()),
            forms=kept.forms,
        )

    @property
    def failed(self) -> int:
        """Unusable images."""
        return self.done - self.fitted

    @property
    def unsettled(self) -> int:
        """Unusable images that another attempt may read."""
        return len(self.unreached)
