"""Publish: add the rows of finished nights to tables that data platforms query."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from padim_dist.api.publish.hive import HivePlace
from padim_dist.api.publish.iceberg import IcebergPlace
from padim_dist.api.publish.plan import all_nights, all_runs, new_nights, one_night, one_run
from padim_dist.api.publish.rows import Piece, RowReader
from padim_dist.api.publish.work import Place, Work
from padim_dist.api.settings.places import (
    ConfigLike,
    archive_settings,
    as_config,
    workspace_of,
)
from padim_dist.config import Config
from padim_dist.errors import ConfigError, RequestError
from padim_dist.events import Listener, Progress, ignore
from padim_dist.store.lease import hold
from padim_dist.store.published import (
    Published,
    PublishedNights,
    published_nights,
    put_published_nights,
)


@dataclass(frozen=True)
class PublishResult:
    """What was published.

    Attributes
    ----------
    places : list of str
        Where the tables are.
    nights : list of int
        Nights whose rows were written.
    runs, images, regions : int
        Runs that were written, and their rows in the tables of images and regions.
    unchanged : int
        Runs that were there already, as they are.
    seconds : float
        Duration.
    notes : list of str
        What could not be published, and why.
    """

    places: list[str]
    nights: list[int]
    runs: int
    images: int
    regions: int
    unchanged: int
    seconds: float
    notes: list[str] = field(default_factory=list)


def publish(
    config: ConfigLike,
    listener: Listener = ignore,
    *,
    night: int | None = None,
    run: str | None = None,
    all_of_them: bool = False,
) -> PublishResult:
    """Write the rows of nights to the tables of the section ``publish``.

    A run that is there already is replaced, never added a second time, whatever was killed before.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    night, run : int, str, optional
        Only this night, or this finished run (an id or a unique prefix; it may belong to no night).
        By default all finished nights that the tables lack, or whose rows have changed.
    all_of_them : bool, optional
        All finished runs of the archive once more, also those that belong to no night.

    Raises
    ------
    ConfigError
        If the section ``publish`` is empty, PyIceberg is not installed, or a table is of something
        else.
    RequestError
        If there is no such night or run, or two of the options are given.
    HeldError
        If another process publishes to the same place.
    RunError
        If a catalog or a store fails; another call does the rest.

    Examples
    --------
    >>> publish(config).nights        # doctest: +SKIP
    [12]
    """
    config = as_config(config)
    if sum((night is not None, run is not None, all_of_them)) > 1:
        raise RequestError("a night, --run and --all exclude each other; give one of them")
    if not config.publish.is_wanted:
        raise ConfigError(
            "the section publish is empty: set publish.iceberg.catalog, or publish.hive to a folder"
        )
    if night is not None:
        pieces = [one_night(config, night)]
    elif run is not None:
        pieces = [one_run(config, run)]
    else:
        pieces = all_runs(config) if all_of_them else all_nights(config)
    is_asked_for = night is not None or run is not None or all_of_them
    return _publish(config, listener, lambda _: (pieces, None), is_asked_for)


def publish_new(config: Config, listener: Listener = ignore) -> PublishResult:
    """Publish the nights after those that are all there; see `publish` for the errors.

    Up to which number all are there is written down: a night that is there hides no earlier one
    that failed.
    """
    settings = archive_settings(config)

    def choose(work: Work) -> tuple[list[Piece], int | None]:
        there = published_nights(work.workspace, work.place.key, work.identity, settings)
        pieces, last = new_nights(config, there)
        return pieces, last if last > there else None

    return _publish(config, listener, choose, False)


def _publish(
    config: Config,
    listener: Listener,
    choose: Callable[[Work], tuple[list[Piece], int | None]],
    again: bool,
) -> PublishResult:
    """Publish what `choose` returns for each place; `again`: also what is there as it is.

    It returns, too, the number up to which all nights are there then, if that is to be written.
    """
    started, workspace = time.monotonic(), workspace_of(config)
    written: dict[str, Published] = {}
    there: set[str] = set()
    notes: dict[str, None] = {}
    places = _places(config)
    for place in places:
        with hold(workspace, workspace.published(place.key)) as lease:
            watch = lease.guard(listener)
            work = Work(workspace, place, place.identity(), RowReader(config))
            pieces, last = choose(work)
            count = _Count(watch, sum(run.images for piece in pieces for run in piece.runs))
            for piece in pieces:
                if not again and not work.has_changed(piece):
                    there |= {head.run_id for head in piece.runs}
                    count.add(sum(head.images for head in piece.runs))
                    continue
                usable, lost = work.usable(piece)
                notes |= dict.fromkeys(lost)
                if usable.runs:
                    written |= {one.run_id: one for one in work.publish(usable, count.add)}
            if last is not None:
                nights = PublishedNights(work.identity, last)
                put_published_nights(workspace, place.key, archive_settings(config), nights)
    return PublishResult(
        places=[place.title for place in places],
        nights=sorted({one.night for one in written.values() if one.night is not None}),
        runs=len(written),
        images=sum(one.images for one in written.values()),
        regions=sum(one.regions for one in written.values()),
        unchanged=len(there - written.keys()),
        seconds=round(time.monotonic() - started, 2),
        notes=[*notes],
    )


def _places(config: Config) -> list[Place]:
    places: list[Place] = []
    if config.publish.iceberg is not None:
        places.append(IcebergPlace(config, config.publish.iceberg))
    if config.publish.hive is not None:
        places.append(HivePlace(config, config.publish.hive))
    return places


class _Count:
    """Tells a listener how many images are written."""

    def __init__(self, listener: Listener, total: int) -> None:
        self._listener, self._total, self._done = listener, total, 0
        self.add(0)

    def add(self, images: int) -> None:
        """Add images; more than the total are those of a commit that is done again."""
        self._done = min(self._done + images, self._total)
        self._listener(Progress("publish", self._total, self._done))
