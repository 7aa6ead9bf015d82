"""What jobs that read no image have in common."""

from __future__ import annotations

from dataclasses import dataclass

from padim_dist.engine.examine import Examination


class WithoutImages:
    """A job on what was made of images: it counts as one, and no image can kill its worker."""

    @property
    def size(self) -> int:
        """One."""
        return 1

    @property
    def examinations(self) -> list[Examination]:
        """No image is read."""
        return []


@dataclass(frozen=True)
class Done:
    """Such a job is done."""

    done: int = 1
    failed: int = 0
