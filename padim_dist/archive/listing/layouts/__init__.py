"""Layouts: how the files of an archive become image rows.

A layout is a module of this folder with a function ``list_images(listing, spool)``. To add one,
write the module and add its name to `LAYOUTS`: it is then a value of ``archive.layout``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

LAYOUTS = ("folder", "mvtec", "tar", "table", "video")
"""Names of the layouts, which are also names of modules."""


def find_layout(name: str) -> Callable[..., None]:
    """Return ``list_images`` of a layout.

    The modules are imported only here: a configuration needs only the names.
    """
    found: Callable[..., None] = import_module(f"{__name__}.{name}").list_images
    return found
