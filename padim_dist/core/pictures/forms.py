"""Forms of pictures: size, bits and colour, as the headers of their files say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_SHOWN = 3
_MOST = 16


@dataclass(frozen=True, order=True)
class Form:
    """Form of a picture.

    Attributes
    ----------
    width, height : int
        Size in pixels, as it is shown.
    bits : int
        Bits of a sample.
    grey : bool
        Whether it has no colours.
    """

    width: int
    height: int
    bits: int
    grey: bool


@dataclass(frozen=True)
class CountedForm:
    """A form, and how many images have it."""

    form: Form
    images: int


def count_forms(forms: Iterable[Form | None]) -> list[CountedForm]:
    """Return the most common forms, whatever the order of the images; None is not counted."""
    counts = Counter(form for form in forms if form is not None)
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST]
    return [CountedForm(form, images) for form, images in common]


def find_mixtures(forms: Iterable[CountedForm]) -> list[str]:
    """Return in which ways pictures differ that should be alike.

    Examples
    --------
    >>> colour, grey = Form(640, 480, 8, False), Form(480, 480, 8, True)
    >>> find_mixtures([CountedForm(colour, 9), CountedForm(grey, 1)])
    ['sizes 640x480 (9), 480x480 (1)', 'colour (9), grey (1)']
    >>> find_mixtures([CountedForm(colour, 9)])
    []
    """
    ways: tuple[tuple[str, Callable[[Form], str]], ...] = (
        ("sizes ", lambda form: f"{form.width}x{form.height}"),
        ("", lambda form: f"{form.bits} bits"),
        ("", lambda form: "grey" if form.grey else "colour"),
    )
    found, counted = [], list(forms)
    for name, kind_of in ways:
        kinds = Counter[str]()
        for one in counted:
            kinds[kind_of(one.form)] += one.images
        if len(kinds) > 1:
            shown = [f"{kind} ({n})" for kind, n in kinds.most_common(_SHOWN)]
            more = [f"{len(kinds) - _SHOWN} more"] if len(kinds) > _SHOWN else []
            found.append(name + ", ".join([*shown, *more]))
    return found
