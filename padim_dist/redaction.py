"""Secrets in addresses: hidden in all that is stored, shown or logged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

Tree = TypeVar("Tree")
HIDDEN = "…"
"""What stands in place of a secret."""
_WORD = re.compile(r"\S+")
# The name of the scheme begins with the first letter of its word.
_SCHEME = r"(?<![\w+.-])(?:[^\WA-Za-z]|[+.-])*([A-Za-z][\w+.-]*)://"
# Up to the last @ of the authority; or, with a password that has a slash, up to the first @.
_USER = r"((?:[^\s/?#]*|[^\s/@:\[]+:(?!\d*(?:/|\Z))[^\s@]*)@)"
_ADDRESS, _ADDRESS_WITH_USER = re.compile(_SCHEME), re.compile(_SCHEME + _USER)
_NAME, _VALUE = re.compile(r"[?&;#][^=&;#]*"), re.compile(r"=[^&;#'\")>]+")
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
        text = _WORD.sub(_hide, text)
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


def without_secrets_of(properties: Mapping[str, str], text: str) -> str:
    """Return a text without the values of properties whose name is that of a secret.

    Examples
    --------
    >>> without_secrets_of({"s3.secret-access-key": "abc", "uri": "x"}, "x refuses 'abc'")
    "x refuses '…'"
    """
    secrets = [value for name, value in properties.items() if value and _SECRET_NAME.search(name)]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return redacted(text)


def _hide(match: re.Match[str]) -> str:
    """Hide the secrets of a word. Addresses may be parts of others: all users come first.

    Each expression sees each character a fixed number of times, also in a text made to delay it:
    a search for an @ happens only where one follows, and goes on behind it.
    """
    word = match[0]
    if "://" not in word:
        return word
    users, at, rest = word.rpartition("@")
    word = _ADDRESS_WITH_USER.sub(_hide_user, users + at) + rest
    address = _ADDRESS.search(word)
    if address is None:
        return word
    start = address.end()
    return word[:start] + _hide_parameters(word[start:])


def _hide_user(match: re.Match[str]) -> str:
    scheme, user = match[1], match[2]
    if ":" in user or scheme.lower() in ("http", "https"):
        return f"{match[0].removesuffix(user)}{HIDDEN}@"
    return match[0]


def _hide_parameters(text: str) -> str:
    """Hide values of parameters. A value that stays may be an address with parameters."""
    parts, place = [], 0
    while name := _NAME.search(text, place):
        parts.append(text[place : name.end()])
        place = name.end()
        if _SECRET_NAME.search(name[0]) and (value := _VALUE.match(text, place)):
            parts.append(f"={HIDDEN}")
            place = value.end()
    return "".join(parts) + text[place:]
