"""Messages about nights, sent to a real HTTP and a real SMTP server."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from aiosmtpd.controller import Controller
from PIL import Image

import padim_dist as padim
from padim_dist.api.nights.audit import conclude_night
from padim_dist.api.nights.notify import notify_night
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import Config
from padim_dist.errors import ConfigError, RequestError
from padim_dist.escaping import visible
from padim_dist.pages.night import night_markdown
from padim_dist.store.nights import Notice, add_night, find_summary, last_night
from tests.api.nights import group, made_night, put_night
from tests.api.workspace import made_config
from tests.hooks import serving, web_hook
from tests.names import HOSTILE, SECRET

NAME = "PADIM_TEST_NOTIFY"
# Of the modules of other services, which Apprise loads too.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def http() -> Iterator[tuple[str, list[dict]]]:
    """Address of a service, and what it was sent."""
    with web_hook() as (port, posted):
        yield f"json://me:{SECRET}@127.0.0.1:{port}", posted


@pytest.fixture
def smtp() -> Iterator[tuple[str, list[bytes]]]:
    """Address of a mail server, and the messages that it has."""
    mails: list[bytes] = []

    class Keep:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            mails.append(envelope.content)
            return "250 OK"

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(Keep(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield f"mailto://127.0.0.1:{port}?from=padim@example.org&to=me@example.org", mails
    finally:
        controller.stop()


def config_of(tmp_path: Path, **notify: object) -> Config:
    notify = {"urls_from": NAME, "when": ["done", "odd", "flagged", "failed"], **notify}
    return made_config(str(tmp_path / "audit"), str(tmp_path / "photos"), notify=notify)


def picture() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(sink, "JPEG")
    return sink.getvalue()


def test_a_web_hook_gets_title_summary_and_picture(http, tmp_path, monkeypatch):
    url, posted = http
    monkeypatch.setenv(NAME, url)
    night = made_night(2, {"cam_4": group(flagged=5)}, state="odd", reasons=["the median rose"])
    (notice,) = notify_night(config_of(tmp_path), night, picture())
    assert notice == Notice("json://127.0.0.1")
    (message,) = posted
    assert message["title"] == "Night 2, 26 November, photos: 5 flagged, odd"
    assert message["message"] == night_markdown(night, titled=False).strip()
    assert night.headline not in message["message"], "not again"
    assert message["type"] == "warning"
    (attached,) = message["attachments"]
    assert base64.b64decode(attached["base64"]) == picture()
    assert attached["filename"] == "top.jpg"


def test_a_mail_has_them_too(smtp, tmp_path, monkeypatch):
    url, mails = smtp
    monkeypatch.setenv(NAME, url)
    groups = {name: group(flagged=1) for name in HOSTILE}
    reasons = [f"no image of {name!r}" for name in HOSTILE]
    night = made_night(2, groups, state="odd", reasons=reasons)
    (notice,) = notify_night(config_of(tmp_path), night, picture())
    assert notice == Notice("mailto://127.0.0.1")
    message = email.message_from_bytes(mails[0], policy=email.policy.default)
    assert message["Subject"] == night.headline
    assert message["To"] == "me@example.org"
    html = message.get_body(("html",)).get_content()
    assert "<h2>Groups</h2>" in html
    assert "<table>" in html
    page = Page()
    page.feed(html)
    assert not page.tags & {"script", "img", "a", "svg", "iframe", "style"}
    assert not page.attributes
    for reason in reasons:
        assert " ".join(visible(reason).split()) in " ".join(page.text.split())
    (attached,) = [part for part in message.iter_attachments() if part.get_filename() == "top.jpg"]
    assert attached.get_content() == picture()


def test_no_name_calls_people(http, tmp_path, monkeypatch):
    url, posted = http
    monkeypatch.setenv(NAME, url)
    groups = {"@everyone": group(flagged=1), "<!channel>": group(flagged=1)}
    notify_night(config_of(tmp_path), made_night(1, groups), None)
    assert "&#64;everyone" in posted[0]["message"]
    assert "@" not in posted[0]["message"]
    assert "<!" not in posted[0]["message"]
    assert "attachments" not in posted[0] or not posted[0]["attachments"]


@pytest.mark.parametrize(
    ("when", "told"),
    [(["odd"], [False, False, True]), (["flagged"], [False, True, False]), (["done"], [True] * 3)],
)
def test_only_what_is_asked_for_is_told(when, told, http, tmp_path, monkeypatch):
    url, posted = http
    monkeypatch.setenv(NAME, url)
    config = config_of(tmp_path, when=when)
    nights = [
        made_night(1, {"a": group()}),
        made_night(2, {"a": group(flagged=1)}),
        made_night(3, {"a": group()}, state="odd"),
    ]
    assert [bool(notify_night(config, night, None)) for night in nights] == told
    assert len(posted) == sum(told)
    assert notify_night(config_of(tmp_path, urls_from=None), nights[0], None) == []


def test_doctor_says_who_would_be_told(http, tmp_path, monkeypatch, caplog, capfd):
    url, posted = http
    config = config_of(tmp_path, when=["odd", "failed"])

    def told(config: Config) -> list[tuple[str, str]]:
        findings = [f for f in padim.doctor(config).findings if f.check == "messages"]
        assert all(bool(f.remedy) == (f.verdict != "ok") for f in findings)
        return [(f.verdict, f.found) for f in findings]

    monkeypatch.setenv(NAME, f"{url} slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    known = "odd, failed: to json://127.0.0.1, slack://…; nothing was sent"
    assert told(config) == [("ok", known)]
    monkeypatch.setenv(NAME, f"{url} what://{SECRET}")
    assert told(config) == [
        ("ok", "odd, failed: to json://127.0.0.1; nothing was sent"),
        ("warning", f"address 2 in {NAME} is not told: Apprise does not know this address; "
         "see its documentation"),
    ]  # fmt: skip
    monkeypatch.delenv(NAME)
    missing = f"nobody is told: the environment variable {NAME} is not set"
    assert told(config) == [("warning", missing)]
    assert told(config_of(tmp_path, urls_from=None)) == []
    assert not posted
    out, err = capfd.readouterr()
    assert SECRET not in f"{caplog.text}{out}{err}"


class Silence(BaseRequestHandler):
    """Never answers."""

    def handle(self) -> None:
        self.server.over.wait()


def test_services_that_fail_fail_nothing(http, tmp_path, monkeypatch, caplog, capfd):
    url, posted = http
    with ThreadingTCPServer(("127.0.0.1", 0), Silence) as closed:
        port = closed.server_address[1]
    silent = ThreadingTCPServer(("127.0.0.1", 0), Silence)
    silent.over = threading.Event()
    token = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    with serving(silent) as silent_port:
        urls = [
            f"{url}/503",
            f"json://{SECRET}@127.0.0.1:{port}",
            f"json://{SECRET}@127.0.0.1:{silent_port}/?rto=60",
            f"what://{SECRET}",
            f"slack://{token}",
            url,
        ]
        monkeypatch.setenv(NAME, "\n".join(urls))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")  # nothing leaves this machine
        night = made_night(1, {"a": group()})
        try:
            found = notify_night(config_of(tmp_path, deadline=3.0), night, None)
        finally:
            silent.over.set()
    unknown = "Apprise does not know this address; see its documentation"
    assert found == [
        Notice("json://127.0.0.1 (address 1)", "it answers 503 Service Unavailable"),
        Notice("json://127.0.0.1 (address 2)", "it cannot be reached, or refuses the message"),
        Notice("json://127.0.0.1 (address 3)", "no answer within notify.deadline = 3 s"),
        Notice(f"address 4 in {NAME}", unknown),
        Notice("slack://…", "it cannot be reached, or refuses the message"),
        Notice("json://127.0.0.1 (address 6)"),
    ]
    assert len(posted) == 2
    assert f"json://127.0.0.1 (address 1) is not told: {found[0].error}" in caplog.text
    text = night_markdown(replace(night, notices=found))
    assert "Message: json&#58;//127.0.0.1 (address 1) is not told: it answers 503" in text
    assert "\nNotified: json&#58;//127.0.0.1 (address 6).\n" in text
    shown = [caplog.text, text, *capfd.readouterr()]
    assert not any(secret in one for one in shown for secret in (SECRET, token, token[:9]))


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv(NAME, raising=False)
    (notice,) = notify_night(config_of(tmp_path), made_night(1, {}), None)
    assert notice.describe() == f"nobody is told: the environment variable {NAME} is not set"
    assert notice.describe() in caplog.text
    with pytest.raises(ConfigError, match=r"notify\.urls_from: String should match"):
        config_of(tmp_path, urls_from=f"json://{SECRET}")
    with pytest.raises(ConfigError, match=r"notify\.when"):
        config_of(tmp_path, when=["sometimes"])


def test_a_night_keeps_whom_it_told(http, tmp_path, monkeypatch):
    url, posted = http
    monkeypatch.setenv(NAME, f"{url} {url}/500")
    config = config_of(tmp_path)
    workspace, settings = workspace_of(config), archive_settings(config)
    put_night(config, 1)
    night = last_night(workspace, settings)
    summary = conclude_night(config, night, [])
    assert [bool(notice.error) for notice in summary.notices] == [False, True]
    assert find_summary(workspace, night.path) == summary
    text = workspace.folder.read(f"{night.path}/summary.md").decode()
    assert "it answers 500 Internal Server Error" in text
    assert posted[0]["title"] == "Night 1, 25 November, photos: odd"
    assert conclude_night(config, night, []) == summary
    assert len(posted) == 2, "a finished night is not told again"
    assert not add_night(workspace, settings, night)


def test_an_audit_that_fails_is_told(http, tmp_path, monkeypatch):
    url, posted = http
    monkeypatch.setenv(NAME, url)
    with pytest.raises(RequestError, match="no model is promoted"):
        padim.audit(config_of(tmp_path))
    (message,) = posted
    assert message["title"] == "Audit of photos failed"
    assert "no model is promoted" in message["message"]
    assert message["type"] == "failure"
    with pytest.raises(RequestError):
        padim.audit(config_of(tmp_path, when=["done"]))
    assert len(posted) == 1
