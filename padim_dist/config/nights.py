"""Sections of nights: their summary, when one is odd, and whom to tell."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from padim_dist.config.base import Section

Occasion = Literal["done", "odd", "flagged", "failed"]


class AuditConfig(Section):
    """Nightly audits: the summary of a night, and when a night is odd."""

    top: int = Field(10, ge=1, le=50)
    """Number of most anomalous images in the summary and its picture."""
    unusable: float = Field(0.05, ge=0, le=1)
    """Odd: a larger share of the images than this cannot be scored."""
    rise: float = Field(0.25, gt=0)
    """Odd: the median score of a group exceeds the baseline by more than this share."""
    alarms: float = Field(3.0, ge=1)
    """Odd: this many times as many images of a group are flagged as in the baseline."""
    drift: float = Field(4.0, gt=0)
    """Odd: the drift of a group exceeds the baseline by this many standard deviations."""
    fdr_nights: Annotated[int, Field(ge=2)] | None = None
    """With ``score.fdr``: number of nights that share this largest share of false alarms, e.g. 7.
    Null: it holds for each night by itself."""
    compare: int = Field(14, ge=3)
    """Number of baseline nights; at least three are needed."""


class NotifyConfig(Section):
    """Messages about nights, by Apprise: mail, chats, web hooks."""

    urls_from: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Name of the environment variable with the addresses of services, as Apprise writes them,
    separated by white space. They are secrets, so they are never in this file. Null: no message."""
    when: Annotated[tuple[Occasion, ...], Field(min_length=1)] = ("odd", "flagged", "failed")
    """``done``: every finished night; ``odd``; ``flagged``: an image is flagged; ``failed``:
    an audit ended with an error."""
    deadline: float = Field(30.0, gt=0)
    """Seconds after which a service that does not answer is given up."""
