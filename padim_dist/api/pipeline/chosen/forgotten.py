"""Forgotten images of an archive, and what a fit says about them."""

from __future__ import annotations

from collections.abc import Set

from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import Config
from padim_dist.pages.words import counted, listed
from padim_dist.store.image_objects import ImageObject, ids_of
from padim_dist.store.normals import forgotten_images, read_forgettings

_SHOWN = 3


def find_forgotten(config: Config) -> set[ImageObject]:
    """Return all images that fits of the archive leave out."""
    return forgotten_images(read_forgettings(workspace_of(config), archive_settings(config)))


def forgotten_notes(
    forgotten: Set[ImageObject], fitted: Set[ImageObject], others: Set[ImageObject]
) -> list[str]:
    """Return notes about forgotten images: which are left out, and which are not there any more.

    Parameters
    ----------
    forgotten : set of ImageObject
        All that are forgotten.
    fitted : set of ImageObject
        What the fit would use if none were: a forgotten image that is not in it is gone.
    others : set of ImageObject
        What the fit uses at paths of forgotten images.

    Examples
    --------
    >>> old, new = ImageObject("3f", "1"), ImageObject("3f", "2")
    >>> forgotten_notes({old}, {old}, set())[0][:40]
    '1 forgotten image left out of the fit (3'
    >>> forgotten_notes({old}, {new}, {new})[0][:42]
    '1 forgotten image was replaced: the fit us'
    """
    notes = []
    if names := sorted(ids_of(forgotten & fitted)):
        notes.append(
            f"{counted(len(names), 'forgotten image')} left out of the fit "
            f"({listed(names, _SHOWN)}); "
            "'padim-dist forget --undo IMAGE_ID' takes an image back"
        )
    absent = forgotten - fitted
    replaced = ids_of(absent) & ids_of(others)
    if replaced:
        notes.append(
            f"{counted(len(replaced), 'forgotten image')} "
            f"{'was' if len(replaced) == 1 else 'were'} replaced: the fit uses what is there now "
            f"({listed(sorted(replaced), _SHOWN)}); 'padim-dist forget IMAGE_ID' forgets that too"
        )
    if gone := ids_of(absent) - replaced:
        notes.append(f"{counted(len(gone), 'forgotten image')} not among the normal images now")
    return notes
