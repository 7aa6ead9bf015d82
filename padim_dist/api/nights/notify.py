"""Notify: messages about nights to mail, chats and web hooks, by Apprise.

What fails here is a `Notice` and a warning, never an error: no night fails since nobody was told.
Addresses of services are secrets. Apprise puts them into its log, so its records are kept from it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from padim_dist.api.settings.places import archive_title, logger
from padim_dist.config import Config
from padim_dist.errors import PadimDistError
from padim_dist.escaping import markdown, visible
from padim_dist.pages.night import night_markdown
from padim_dist.redaction import redacted
from padim_dist.store.nights import NightSummary, Notice

Kind = Literal["info", "warning", "failure"]
_STATUS = re.compile(r"\berror=(\d{3})\b")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class Message:
    """A message: title (text), body (Markdown), kind, and maybe a JPEG picture."""

    title: str
    body: str
    kind: Kind = "info"
    picture: bytes | None = None


def notify_night(config: Config, summary: NightSummary, picture: bytes | None) -> list[Notice]:
    """Tell services about a finished night, if the configuration wants that.

    Parameters
    ----------
    config : Config
        The configuration.
    summary : NightSummary
        The night.
    picture : bytes or None
        Its picture, a JPEG file.

    Returns
    -------
    list of Notice
        One for each service; none if nobody is to be told.
    """
    found = {
        "done": True,
        "odd": summary.state == "odd",
        "flagged": bool(summary.flagged),
    }
    if not any(found.get(occasion) for occasion in config.notify.when):
        return []
    kind: Kind = "warning" if found["odd"] else "info"
    return _tell(
        config, Message(summary.headline, night_markdown(summary, titled=False), kind, picture)
    )


def in_words(error: Exception) -> str:
    """Return the message of an error, with its type if it is none of this package."""
    return str(error) if isinstance(error, PadimDistError) else f"{type(error).__name__}: {error}"


@contextmanager
def telling_failures(
    config: Config,
    words: Callable[[Exception], str] = in_words,
    what: str = "Audit",
) -> Iterator[None]:
    """Tell services if the block ends with an error, if the configuration wants that.

    `words` returns the message of an error; `what` names the block.
    """
    try:
        yield
    except Exception as error:
        if "failed" in config.notify.when:
            body = "\n\n".join(map(markdown, redacted(words(error)).split("\n")))
            title = f"{what} of {archive_title(config)} failed"
            _tell(config, Message(title, body, "failure"))
        raise


def services_to_tell(config: Config) -> list[Notice]:
    """Return a notice for each service, without sending anything.

    Parameters
    ----------
    config : Config
        The configuration.

    Returns
    -------
    list of Notice
        One for each address, with an error if Apprise does not know it; none if nobody is to be
        told.
    """
    return _to_all(config, None)


def _tell(config: Config, message: Message) -> list[Notice]:
    """Send a message to all services; return what became of it, and log what failed."""
    notices = _to_all(config, message)
    for notice in notices:
        if notice.error:
            logger.warning(notice.describe())
    return notices


def _to_all(config: Config, message: Message | None) -> list[Notice]:
    """Send a message to all services at once; None: only look at their addresses."""
    name = config.notify.urls_from
    if name is None:
        return []
    urls = os.environ.get(name, "").split()
    if not urls:
        return [Notice("", f"the environment variable {name} is not set")]
    if find_spec("apprise") is None:
        return [Notice("", "Apprise is not installed: pip install 'padim-dist[notify]'")]
    places = (f"address {number} in {name}" for number in range(1, len(urls) + 1))
    return _send(dict(zip(places, urls, strict=True)), message, config.notify.deadline)


def _send(urls: Mapping[str, str], message: Message | None, deadline: float) -> list[Notice]:
    """Send a message to addresses; nobody waits for a service beyond the deadline."""
    log = logging.getLogger("apprise")
    if _keep_secret not in log.filters:
        log.addFilter(_keep_secret)
    with TemporaryDirectory(prefix="padim-dist-notify-", ignore_cleanup_errors=True) as folder:
        picture = None
        if message and message.picture:
            picture = Path(folder, "top.jpg")
            picture.write_bytes(message.picture)
        calls = [_Call(place, url, message, picture) for place, url in urls.items()]
        for call in calls:
            call.start()
        end = time.monotonic() + deadline
        for call in calls:
            call.join(max(0.0, end - time.monotonic()))
    named = Counter(call.service for call in calls)
    names = [
        f"{call.service} (address {number})" if named[call.service] > 1 else call.service
        for number, call in enumerate(calls, start=1)
    ]
    late = f"no answer within notify.deadline = {deadline:g} s"
    return [
        Notice(name, late if call.is_alive() else call.error)
        for name, call in zip(names, calls, strict=True)
    ]


class _Call(threading.Thread):
    """A message to one service; None: only a look at its address.

    Attributes
    ----------
    service : str
        Place of its address in the environment; then its scheme, and its host if that is no secret.
    error : str or None
        Why the message is not sent; None if it is.
    status : int or None
        Status of an answer over HTTP that is an error.
    """

    def __init__(self, place: str, url: str, message: Message | None, picture: Path | None) -> None:
        super().__init__(name="padim-dist-notify", daemon=True)
        self.service: str = place
        self.error: str | None = "it failed"
        self.status: int | None = None
        self._url, self._message, self._picture = url, message, picture

    def run(self) -> None:
        """Send the message."""
        try:
            self.error = self._send()
        except Exception as error:  # any error of a service's module
            self.error = f"it failed with {type(error).__name__}"

    def _send(self) -> str | None:
        from apprise import Apprise, OverflowMode

        sender = Apprise()
        if not sender.add(self._url):
            return "Apprise does not know this address; see its documentation"
        service = sender[0]
        scheme = self._url.partition("://")[0].lower()
        templates: tuple[str, ...] = service.templates
        has_host = all("{host}" in template for template in templates)  # a chat has a token there
        self.service = visible(f"{scheme}://{service.host if has_host else '…'}")
        if self._message is None:
            return None
        if "overflow=" not in self._url:
            service.overflow_mode = OverflowMode.SPLIT  # many services refuse long messages
        is_sent = sender.notify(
            body=_without_calls(self._message.body),
            title=visible(self._message.title),
            body_format="markdown",
            notify_type=self._message.kind,
            attach=str(self._picture) if self._picture else None,
        )
        if is_sent:
            return None
        if self.status is None:
            return "it cannot be reached, or refuses the message"
        return f"it answers {self.status} {_PHRASES.get(self.status, '')}".rstrip()


def _keep_secret(record: logging.LogRecord) -> bool:
    """Drop the log records of a thread that sends; they name its address."""
    call = threading.current_thread()
    if not isinstance(call, _Call):
        return True
    if found := _STATUS.search(record.getMessage()):
        call.status = int(found[1])
    return False


def _without_calls(text: str) -> str:
    """Return Markdown in which no name of an archive calls people (``@everyone``, ``<!here>``)."""
    return text.replace("@", "&#64;").replace("<", "&#60;")
