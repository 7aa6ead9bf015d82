"""Section of the configuration: whom to tell about nights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from padim_dist.config.sections import Section

Occasion = Literal["done", "odd", "flagged", "failed"]


class NotifyConfig(Section):
    """Messages about nights, by Apprise: mail, chats, web hooks."""

    urls_from: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Name of the environment variable with the addresses of services, as Apprise writes them,
    separated by white space. They are secrets, so they are never in this file. Null: no message."""
    on: Annotated[tuple[Occasion, ...], Field(min_length=1)] = ("odd", "flagged", "failed")
    """When: ``done``: every finished night; ``odd``; ``flagged``: an image is flagged; ``failed``:
    an audit ended with an error."""
    deadline: float = Field(30.0, gt=0)
    """Seconds after which a service that does not answer is given up."""
