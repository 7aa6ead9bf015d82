"""Publishing after nights. If it fails, the nights stay finished, and the next night does it."""

from __future__ import annotations

from collections.abc import Callable

from padim_dist.api.nights.notify import in_words, telling_failures
from padim_dist.api.settings.places import logger
from padim_dist.config import Config


def publish_nights(
    config: Config,
    publish: Callable[[], object],
    words: Callable[[Exception], str] = in_words,
) -> str | None:
    """Publish the nights that the tables lack, if the configuration wants that.

    Parameters
    ----------
    config : Config
        The configuration.
    publish : callable
        Does it.
    words : callable, optional
        Returns the message of an error.

    Returns
    -------
    str or None
        Why it failed, which is logged, and told as a failed audit is; None if it did not.
    """
    if not config.publish.is_wanted:
        return None
    try:
        with telling_failures(config, words, "Publishing"):
            publish()
    except Exception as error:  # any error of a catalog's client: the nights are finished
        why = f"not published, the next night tries again: {words(error)}"
        logger.warning(why)
        return why
    return None
