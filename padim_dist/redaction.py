"""Secrets in addresses: hidden in all that is stored, shown or logged."""

from __future__ import annotations

import re
from typing import Any, TypeVar

Tree = TypeVar("Tree")
HIDDEN = "…"
"""What stands in place of a secret."""
_URL = re.compile(r"(?<![\w+.-])([A-Za-z][\w+.-]*)://(\S+)")
# Up to the last @ of the authority; or, with a password that has a slash, up to the first @.
_USER = re.compile(r"(?:[^\s/?#]*|[^\s/@:\[]+:(?!\d*(?:/|$))[^\s@]*)@")
_PARAMETER = re.compile(r"([?&;#][^=&;#\s]*)=[^&;#\s'\")>]+")
_SECRET_NAME = re.compile(
    "sig|token|secret|pass|pwd|key|cred|auth|session|sas|code|jwt|ticket|policy|x-amz-|x-goog-",
    re.IGNORECASE,
)
_PEM = re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL)


def redacted(text: str) -> str:
    """Return a text without passwords and signatures in addresses, and without private keys.

    Hidden are: a user with a password; any user of http(s); values of query parameters whose name
    is that of a secret; private keys in PEM. All else stays as it is, so a text without secrets is
    returned unchanged.

    Examples
    --------
    >>> redacted("no https://me:secret@host/x?id=7&sig=abc here")
    'no https://…@host/x?id=7&sig=… here'
    >>> redacted("abfs://container@account.net/a b@c?.jpg")
    'abfs://container@account.net/a b@c?.jpg'
    """
    if "://" in text:
        text = _URL.sub(_hide, text)
    if "PRIVATE KEY-----" in text:
        text = _PEM.sub(HIDDEN, text)
    return text


def redacted_tree(value: Tree) -> Tree:
    """Return a value of lists and mappings with all its texts redacted."""
    found: Any = value
    if isinstance(value, str):
        found = redacted(value)
    elif isinstance(value, dict):
        found = {redacted_tree(key): redacted_tree(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        found = type(value)(redacted_tree(item) for item in value)
    return found  # type: ignore[no-any-return]


def _hide(match: re.Match[str]) -> str:
    scheme, rest = match[1], match[2]
    user = _USER.match(rest)
    if user and (":" in user[0] or scheme.lower() in ("http", "https")):
        rest = f"{HIDDEN}@{rest[user.end() :]}"
    rest = _PARAMETER.sub(_hide_parameter, rest)
    return f"{scheme}://{_URL.sub(_hide, rest)}"  # an address may be part of another


def _hide_parameter(match: re.Match[str]) -> str:
    return f"{match[1]}={HIDDEN}" if _SECRET_NAME.search(match[1]) else match[0]
