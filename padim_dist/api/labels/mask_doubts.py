"""Notes on masks that may not go with their images."""

from __future__ import annotations

from padim_dist.archive.reading.masks import CheckedMask

_SHOWN = 3


class MaskDoubts:
    """Collects masks by fault, with the names of the first few."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, mask: CheckedMask | None) -> None:
        """Add a mask; None and sound ones are not counted."""
        if mask is None or mask.fault is None:
            return
        self._counts[mask.fault] = self._counts.get(mask.fault, 0) + 1
        examples = self._examples.setdefault(mask.fault, [])
        if len(examples) < _SHOWN:
            examples.append(f"{mask.uri} ({mask.detail})" if mask.detail else mask.uri)

    def notes(self) -> list[str]:
        """Return a note for each fault: how many masks, and the first of them."""
        return [
            f"masks that {fault}: {count:,}, e.g. {', '.join(self._examples[fault])}"
            for fault, count in self._counts.items()
        ]
