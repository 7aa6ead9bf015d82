"""Groups whose images differ in size, bits or colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor

from padim_dist.api.findings import Finding
from padim_dist.archive.films.names import frame_time
from padim_dist.archive.reading.formats.forms import form_of
from padim_dist.archive.reading.formats.heads import head_of
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.core.pictures.forms import CountedForm, Form, count_forms, find_mixtures
from padim_dist.errors import ImageError
from padim_dist.pages.words import counted, listed

_HEAD, _MOST = 2**16, 2**24
"""Bytes of an image that have its header; bytes that are read if they have not."""
MIXED_REMEDY = (
    "A model compares pixels at the same place, so give each kind a group of its own by "
    "archive.group, or store them alike. The resize distorts sizes of other proportions"
)


def mixed_forms(groups: Mapping[str, Sequence[CountedForm]]) -> str | None:
    """Return a sentence about the groups whose images differ in form; None if there is none.

    Examples
    --------
    >>> mixed_forms({"bolt": [CountedForm(Form(9, 9, 8, True), 5)]}) is None
    True
    >>> forms = [CountedForm(Form(9, 9, 8, True), 5), CountedForm(Form(9, 9, 16, True), 1)]
    >>> mixed_forms({"bolt": forms})
    "different kinds of images in 1 group: 'bolt' 8 bits (5), 16 bits (1)"
    """
    mixed = [
        f"{group!r} {'; '.join(ways)}"
        for group, forms in groups.items()
        if (ways := find_mixtures(forms))
    ]
    if not mixed:
        return None
    return f"different kinds of images in {counted(len(mixed), 'group')}: {listed(mixed)}"


def sampled_mixtures(
    groups: Mapping[str, Sequence[ImageRow]], reader: ImageReader, threads: Executor
) -> Iterator[Finding]:
    """Read headers of images, several at a time; yield what `doctor` says of them."""
    rows = [row for some in groups.values() for row in some]
    read = iter([*threads.map(lambda row: _form(reader, row), rows)])
    forms = {group: count_forms([next(read) for _ in some]) for group, some in groups.items()}
    headers = sum(one.images for group in forms.values() for one in group)
    found = f"read {counted(headers, 'header')} of {counted(len(forms), 'group')}"
    if mixed := mixed_forms(forms):
        yield Finding("kinds", "warning", f"{found}: {mixed}", MIXED_REMEDY)
    elif headers:
        yield Finding("kinds", "ok", f"{found}: one kind in each group")


def _form(reader: ImageReader, row: ImageRow) -> Form | None:
    """Return the form of an image by its first bytes; None if they do not have it."""
    if frame_time(row) is not None:  # its bytes are packets of a film
        return reader.load(row).form
    for most in (_HEAD, _MOST):
        try:
            data = reader.fetch_head(row, most)
            picture = head_of(data, reader.max_pixels)
        except ImageError:
            if row.length <= most:
                return None
        else:
            return form_of(data, picture.width, picture.height)
    return None
