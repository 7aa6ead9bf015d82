"""The contact sheet: what it says of each image, and that no text leaves its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.pages.lettering import fitted, font
from padim_dist.pages.sheet import SheetItem, contact_sheet

GROUND, RED = (250, 250, 250), (190, 30, 45)


def item(grey: int = 128, **changes) -> SheetItem:
    values = {
        "pixels": np.full((64, 96, 3), grey, np.uint8),
        "heat": np.zeros((64, 96), np.float32),
        "mask": None,
        "name": "camera-1/2026-11-26/0001.png",
        "group": "camera-1",
        "label": None,
        "score": 12.5,
        "p_value": 0.0012,
        "flagged": True,
    }
    return SheetItem(**{**values, **changes})


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"])), st.integers(20, 400))
def test_a_text_is_cut_to_the_width(text, width):
    face = font(13)
    shown = fitted(text, face, width)
    assert face.getlength(shown) <= width
    if face.getlength(text) <= width:
        assert shown == text
    else:
        head, _, end = shown.partition("…")
        assert text.startswith(head)
        assert text.endswith(end)


def test_letters_with_accents_are_drawn():
    """Pillow's default font draws the same box for all of them."""
    face = font(16)
    masks = {bytes(face.getmask(letter)) for letter in "éüßñЖλ"}
    assert len(masks) == 6


@pytest.mark.parametrize("grey", [0, 255])
def test_a_sheet_of_long_names(grey):
    long = "a very long name of a folder/" * 9
    items = [item(grey, name=long, group=long, label=long) for _ in range(3)]
    sheet = np.asarray(contact_sheet(items, title=long))
    height, width = sheet.shape[:2]
    assert (height, width) == (48 + 2 * (224 + 44 + 16), 2 * (456 + 24) + 8)
    for columns in (slice(0, 15), slice(15 + 458, 15 + 479), slice(width - 15, width)):
        assert (sheet[48:, columns] == GROUND).all()  # between the items there is no text
    assert (sheet[:, -15:] == GROUND).all()
    assert (sheet[-16 - 200 : -16, 16:240] == grey).all()  # no text over an image
    assert (sheet[height - 17 - 224, 16:240] == (205, 205, 205)).all()  # its edge


def test_only_flagged_images_have_the_mark():
    flags = (True, False, None)
    items = [item(flagged=flag, p_value=0.5 if flag is not None else None) for flag in flags]
    sheet = np.asarray(contact_sheet(items, columns=1))
    marked = [(sheet[k * 284 : (k + 1) * 284] == RED).all(axis=-1).any() for k in range(3)]
    assert marked == [True, False, False]
