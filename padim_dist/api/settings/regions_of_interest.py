"""Regions of interest of the groups of an archive, from ``model.roi``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from padim_dist.api.settings.image_sizes import sizes_by_group
from padim_dist.api.settings.moved import move_since_id
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.settings.plans import reader_of
from padim_dist.archive.reading.areas import area_of_file, area_of_polygons
from padim_dist.archive.reading.formats.heads import Picture
from padim_dist.archive.reading.masks import same_shape
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.config import Config
from padim_dist.config.roi import Area
from padim_dist.core.geometry import Grid
from padim_dist.core.roi.runs import Runs, inside_patches, runs_of
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.errors import ConfigError, ImageError
from padim_dist.events import Listener
from padim_dist.pages.words import counted, listed
from padim_dist.redaction import redacted
from padim_dist.storage import Folder
from padim_dist.store.manifests import read_shard

_HEADS = 3
"""Images of a group that are tried for the size of its images."""


@dataclass(frozen=True)
class RegionOfInterest:
    """The part of a group's pictures that is judged.

    Attributes
    ----------
    runs : tuple of int
        Its patches, as in `PyramidShape`.
    share : float
        Share of the patches that are inside.
    mask : str or None
        Address of the mask; None for polygons.
    size : (int, int) or None
        Height and width of the mask.
    """

    runs: Runs
    share: float
    mask: str | None = None
    size: Grid | None = None


def find_regions_of_interest(
    config: Config, spec: EmbeddingSpec, groups: Collection[str]
) -> dict[str, RegionOfInterest]:
    """Return the region of interest of each group that has one.

    Parameters
    ----------
    config, spec : Config, EmbeddingSpec
        The configuration and the whole embedding.
    groups : collection of str
        All groups of the archive.

    Raises
    ------
    ConfigError
        If a group is not known, a mask cannot be read, or an area leaves nothing.
    """
    asked = config.model.roi
    if asked is None:
        return {}
    areas: Mapping[str, Area] = asked if isinstance(asked, dict) else dict.fromkeys(groups, asked)
    if unknown := sorted(areas.keys() - set(groups)):
        raise ConfigError(
            f"model.roi names {listed(map(repr, unknown))}, but the archive has "
            f"{counted(len(groups), 'group')}: {listed(map(repr, sorted(groups)))}. Correct the "
            "names, or archive.group"
        )
    made: dict[Area, RegionOfInterest] = {}
    for group, area in areas.items():
        if area not in made:
            made[area] = _region(config, spec, group, area)
    return {group: made[area] for group, area in areas.items()}


def _region(config: Config, spec: EmbeddingSpec, group: str, area: Area) -> RegionOfInterest:
    geometry, grid = spec.geometry, spec.shape.grids[0]
    if isinstance(area, str):
        name, size = redacted(area), None
        folder, _, file = area.rpartition("/")
        try:
            data = Folder(folder or ".", config.storage_options).read(file)
            pixels, size = area_of_file(data, config.archive.max_pixels, geometry)
        except (ImageError, OSError, ValueError, ImportError) as error:
            reason = error.reason if isinstance(error, ImageError) else redacted(str(error))
            raise ConfigError(
                f"model.roi: the mask {name} cannot be read: {reason}. Give the path "
                "or URL of a picture that is black outside of the region of interest"
            ) from None
    else:
        name, size = "the polygons", None
        pixels = area_of_polygons(area, geometry)
    patches = inside_patches(pixels, grid)
    if not patches.any():
        raise ConfigError(
            f"model.roi leaves nothing of group {group!r}: by {name} none of the "
            f"{grid[0]}x{grid[1]} patches has half of its pixels inside. What is not black is "
            "inside; what the centre crop cuts off (model.crop) does not count"
        )
    mask = name if isinstance(area, str) else None
    return RegionOfInterest(runs_of(patches), float(patches.mean()), mask, size)


def regions_of_shards(
    config: Config,
    spec: EmbeddingSpec,
    groups: Collection[str],
    shards: Mapping[str, tuple[str, int]],
    listener: Listener,
) -> dict[str, RegionOfInterest]:
    """Return the regions of interest, whose masks have the shape of an image of their group.

    Parameters
    ----------
    config, spec, groups
        As in `find_regions_of_interest`, with the same errors.
    shards : mapping of str to (str, int)
        Manifest and number of a shard of each group.
    listener : callable
        Receives events.
    """
    regions = find_regions_of_interest(config, spec, groups)
    rows: dict[str, dict[str, list[ImageRow]]] = {}
    for group, (manifest, shard) in shards.items():
        if group in regions and regions[group].size is not None:
            few = to_rows(read_shard(workspace_of(config), manifest, shard))[:_HEADS]
            rows.setdefault(manifest, {})[group] = few
    for manifest, by_group in rows.items():
        reader = reader_of(config, spec, move_since_id(config, manifest))
        check_shapes(regions, sizes_by_group(by_group, reader, "fit: sizes of images", listener))
    return regions


def check_shapes(
    regions: Mapping[str, RegionOfInterest], images: Mapping[str, tuple[str, Picture]]
) -> None:
    """Refuse masks that do not have the shape of an image of their group.

    Parameters
    ----------
    regions : mapping of str to RegionOfInterest
        By group.
    images : mapping of str to (str, Picture)
        Address and size of an image of each group, as far as it can be read.

    Raises
    ------
    ConfigError
        Names the mask, the group, and both sizes.
    """
    for group, region in regions.items():
        if region.size is None or group not in images:
            continue
        (uri, image), (height, width) = images[group], region.size
        if not same_shape(Picture(width, height), image):
            raise ConfigError(
                f"model.roi: the mask {region.mask} does not go with its group {group!r}: it has "
                f"{width}x{height} pixels, the image {redacted(uri)} has {image}. Make it of the "
                "size of the original, or give each group a mask of its own"
            )


def describe_regions(regions: Mapping[str, RegionOfInterest], groups: int) -> str:
    """Return the shares that are judged in words.

    Examples
    --------
    >>> describe_regions({"cam-1": RegionOfInterest((0, 8, 8), 0.5)}, 2)
    "1 of 2 groups: 'cam-1' 50 % judged"
    """
    shares = (f"{group!r} {100 * one.share:.0f} % judged" for group, one in regions.items())
    return f"{len(regions)} of {counted(groups, 'group')}: {listed(shares, 5)}"
