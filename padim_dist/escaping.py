"""Text of an archive in an output: one function for each, so that no name breaks out of it.

People who write to the archive choose the names of files, groups and labels. HTML is escaped by
Jinja (`padim_dist.pages.html`), JSON and Prometheus' labels by their libraries.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import quote

from padim_dist.redaction import redacted

# Control characters, marks that change the direction of text, invisible characters, and halves of
# characters, which stand for bytes of a file name that are not UTF-8.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MARKDOWN = re.compile(r"[\\`*~\[\]<>&|$]|:(?=//)|\b_(?!\w)|(?<!\w)_|^ | $")
_NOT_IN_CODE = re.compile(r"[`|\\]|^\s|\s$|^$")
_FORMULA = ("=", "+", "-", "@", "\t", "\n")
_LINKED = re.compile(r"(?:https?|s3a?|gs|gcs|az|abfss?)://")


def visible(text: str) -> str:
    r"""Return a text of one line for people: unseen characters become escapes, secrets are hidden.

    Examples
    --------
    >>> print(visible("a\x1b[2Jb\nc é 日本"))
    a\x1b[2Jb\nc é 日本
    """
    return _UNSEEN.sub(_escape, redacted(text))


def visible_lines(text: str, indent: str = "  ") -> str:
    """Return a text of several lines, each as `visible`; later lines are indented.

    So a name with a line break looks like no line of its own.
    """
    return f"\n{indent}".join(map(visible, text.split("\n")))


def markdown(text: str) -> str:
    """Return a text in Markdown: characters that have a meaning become references.

    Examples
    --------
    >>> markdown("cam_4, [x](javascript:1)")
    'cam_4, &#91;x&#93;(javascript:1)'
    """
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", visible(text))


def markdown_code(text: str) -> str:
    """Return a name as code in Markdown, also in a table; as text where code cannot hold it.

    Examples
    --------
    >>> markdown_code("cam_4"), markdown_code("a`b")
    ('`cam_4`', 'a&#96;b')
    """
    shown = visible(text)
    return markdown(text) if _NOT_IN_CODE.search(shown) else f"`{shown}`"


def markdown_link(text: str, url: str) -> str:
    """Return a link in Markdown; only the text if the address is not one of a store or the web."""
    if not _LINKED.match(url):
        return markdown(text)
    return f"[{markdown(text)}]({quote(visible(url), safe=':/?#@!$&*+,;=%-._~')})"


def csv_cell(value: object) -> object:
    """Return a value of a CSV file: a text that a spreadsheet would run gets a quote in front.

    Numbers stay numbers, also negative ones.

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell(-2.5), csv_cell("a=1")
    ("'=1+1", -2.5, 'a=1')
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\\r")  # which Python's writer does not quote
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


class SafeRecords(logging.Filter):
    """Makes log records safe before any handler sees them: no secrets, all characters visible."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record; let it pass."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the handler reports wrong arguments
            return True
        record.msg, record.args = visible_lines(message), None
        if record.exc_info:
            record.exc_text = visible_lines(logging.Formatter().formatException(record.exc_info))
        return True


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


# Every module of the package logs here, and imports this one (`padim_dist.errors` does).
logging.getLogger("padim_dist").addFilter(SafeRecords())
