"""No name in an archive breaks out of an artifact, an event or a state of Prefect."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from markdown_it import MarkdownIt

from flows import artifacts, stages
from padim_dist.config import make_config
from padim_dist.errors import RequestError
from tests.names import HOSTILE, ORDINARY, SECRET, UNSEEN
from tests.test_names import summary


@pytest.mark.parametrize("name", HOSTILE + ORDINARY, ids=ascii)
def test_artifacts_and_events(name, monkeypatch):
    made: list[Any] = []
    for kind in ("create_markdown_artifact", "create_table_artifact", "emit_event"):
        monkeypatch.setattr(artifacts, kind, lambda *values, **named: made.append([*values, named]))
    config = make_config({"workspace": "/ws", "archive": {"url": "https://me:MARKED@host/a"}})
    images = [replace(summary(name).top[0], uri=f"{place}{name}") for place in ("", "s3://b/", "/")]
    night = replace(summary(name), top=images)
    artifacts.show_night(config, night)
    artifacts.tell_night(config, night)
    assert len(made) == 3
    text = json.dumps(made, ensure_ascii=False)
    assert not UNSEEN & set(text)
    assert SECRET not in text
    for row in made[1][0]:
        for cell in (row["group"], row["image"]):
            for token in MarkdownIt("commonmark").parseInline(cell)[0].children or ():
                assert token.type not in ("html_inline", "image", "code_inline")
                if token.type == "link_open":
                    assert str(token.attrs["href"]).startswith(("s3://", "http://", "https://"))
    if name in ORDINARY:
        assert made[1][0][0]["group"] == name
        assert f"[{name}](s3://b/" in made[1][0][1]["image"]


def test_the_message_of_a_state_hides_secrets():
    @stages.ends_in_words
    def fails(error: Exception) -> str:
        raise error

    url = "https://me:MARKED@host/x?X-Amz-Signature=MARKED"
    for error in (RequestError(f"\x1b[2J {url}"), OSError(f"\x1b[2J {url}")):
        message = str(fails(error).message)
        assert "\\x1b[2J https://…@host/x?X-Amz-Signature=…" in message
        assert SECRET not in message
