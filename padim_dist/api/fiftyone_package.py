"""FiftyOne, an extra: imported when it is used, since that takes seconds."""

from __future__ import annotations

from typing import Any

from padim_dist.errors import RequestError

VERDICT = "verdict"
"""Field of a sample with the verdict that it had when it was exported, or last imported."""


def import_fiftyone() -> Any:
    """Return the package. Raises `RequestError` if it is not installed."""
    try:
        import fiftyone
    except ImportError as error:
        raise RequestError(
            f"FiftyOne cannot be used ({error}); install it: pip install 'padim-dist[fiftyone]'"
        ) from None
    return fiftyone
