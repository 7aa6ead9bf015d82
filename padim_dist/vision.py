"""torchvision, imported without PyTorch's compiler. All modules take it from here.

``import torchvision`` imports ``torch._dynamo`` for one function, which its ``roi_align`` may call.
That takes a second, four times as long as torchvision itself. Here the import waits for that call.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo.utils"


class _Later(ModuleType):
    """Stands for the module of the compiler while torchvision is imported."""

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        """Ask the real module."""
        return bool(import_module(_NAME).is_compile_supported(device_type))

    def __getattr__(self, name: str) -> Any:
        """Import the real module now: another torchvision needs something else of it."""
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return getattr(import_module(_NAME), name)


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Let imports of the block take a stand-in for the compiler, unless it is imported already."""
    later = _Later(_NAME)
    if sys.modules.setdefault(_NAME, later) is not later:
        yield
        return
    try:
        yield
    finally:
        if sys.modules.get(_NAME) is later:
            del sys.modules[_NAME]


with _without_compiler():
    import torchvision as torchvision
    from torchvision.io import ImageReadMode as ImageReadMode
    from torchvision.io import decode_jpeg as decode_jpeg
    from torchvision.models.feature_extraction import (
        create_feature_extractor as create_feature_extractor,
    )
