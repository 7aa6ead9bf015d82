"""When a stage is retried."""

from __future__ import annotations

import pytest

from flows.stages import pauses
from padim_dist.errors import (
    ArchiveError,
    ConfigError,
    DamagedFileError,
    HeldError,
    RequestError,
    RunError,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, [30, 300]), ("", []), ("5", [5]), ("30, 300,3600", [30, 300, 3600])],
)
def test_seconds_before_each_retry(monkeypatch, text, seconds):
    monkeypatch.delenv("PADIM_DIST_RETRIES", raising=False)
    if text is not None:
        monkeypatch.setenv("PADIM_DIST_RETRIES", text)
    assert pauses() == seconds


@pytest.mark.parametrize("text", ["soon", "30;300", "-1", "nan", "inf"])
def test_values_that_are_not_a_list_of_seconds(monkeypatch, text):
    monkeypatch.setenv("PADIM_DIST_RETRIES", text)
    with pytest.raises(ConfigError, match="is not a list of seconds; write e"):
        pauses()


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (RunError("3 tasks failed"), True),
        (ArchiveError("the share is gone"), True),
        (RequestError("no such model"), False),
        (HeldError("somebody is at work"), False),
        (DamagedFileError("/audit/run.json", "it is empty"), False),
    ],
)
def test_only_what_may_mend_itself_is_retried(error, is_retried):
    assert error.needs_person != is_retried
