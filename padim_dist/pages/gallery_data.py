"""Values of the report about single images; `padim_dist.pages.html` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RegionBox:
    """An anomalous region of an image, in pixels of the original; the box is half-open."""

    number: int
    top: int
    left: int
    bottom: int
    right: int
    area: int
    peak: float
    p_value: float | None


@dataclass(frozen=True)
class GalleryImage:
    """An image of the gallery.

    Attributes
    ----------
    uri, member, group, label : str or None
        As in the score table.
    score, p_value, extrapolated, flagged
        As in the score table; the last three are None without a calibration.
    width, height : int
        Size of the original image, in pixels.
    peak : (int, int)
        y and x of the highest point of the anomaly map, in pixels of the original image.
    map_box : (int, int, int, int)
        Top, left, bottom and right of the area of the heatmap, in pixels of the original.
    regions : sequence of RegionBox
        Anomalous regions, the most anomalous first.
    picture, heat : bytes or None
        WebP: the whole original, and the heatmap over `map_box`.
    gone : str or None
        Why there is no picture.
    """

    uri: str
    member: str | None
    group: str
    label: str | None
    score: float
    p_value: float | None
    extrapolated: bool | None
    flagged: bool | None
    width: int
    height: int
    peak: tuple[int, int]
    map_box: tuple[int, int, int, int]
    regions: Sequence[RegionBox] = ()
    picture: bytes | None = None
    heat: bytes | None = None
    gone: str | None = None

    @property
    def name(self) -> str:
        """File name: the last part of the member's name or of the address."""
        return (self.member or self.uri).rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Failure:
    """A row of the score table without a score."""

    uri: str
    member: str | None
    status: str
    error: str | None
