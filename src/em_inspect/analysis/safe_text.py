"""Text that came from a model, made harmless for the place it is put in."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

# What a spreadsheet takes for the start of a formula (OWASP, "CSV injection"), wide forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

# Markup anywhere in a line; `_` within a word is none, nor a parenthesis that follows no bracket.
_MARKDOWN = re.compile(r"([\\`*{}\[\]#|~$@]|(?<![^\W_])_|_(?![^\W_]))")
_LINK = re.compile(r"([()])")

# What begins a list, a heading, a quote or a rule, at the start of a line alone.
_START = re.compile(r"^(?:[+\-:](?=[ +\-]|$)|=(?==*$)|\d{1,9}(?=[.)](?: |$)))")

# Addresses that GitHub makes links of by itself.
_ADDRESS = re.compile(r"(?i)(:)(?=//)|((?<=\bwww)\.)")
_TICKS = re.compile("`+")

_KEPT = "\n\t"


def visible(text: str) -> str:
    """Drop control characters, and those that turn the direction of the text around them.

    Line breaks and tabs stay; what was dropped is shown as `�`.
    """
    return "".join(c if c in _KEPT or not _hidden(c) else "\ufffd" for c in _lines(text))


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _hidden(character: str) -> bool:
    # Cc: control, Cs: lone surrogate (cannot be written as UTF-8), bidi overrides and isolates.
    return unicodedata.category(character) in ("Cc", "Cs") or character in (
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
    )


def markdown(text: str) -> str:
    """Escape text for a line or a table cell of Markdown: no markup, link or HTML comes of it.

    Only what would be markup where it stands is escaped, so that numbers, dates and names stay
    readable as they are.
    """
    plain = html.escape(" ".join(visible(text).split()), quote=False)
    escaped = _MARKDOWN.sub(r"\\\1", plain)
    if "](" in plain:
        escaped = _LINK.sub(r"\\\1", escaped)
    escaped = _ADDRESS.sub(r"\\\g<0>", escaped)
    return _START.sub(_escaped_start, escaped)


def _escaped_start(match: re.Match[str]) -> str:
    # A number begins a list by the mark behind it, and a backslash escapes marks alone.
    return f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}"


def fenced(text: str) -> str:
    """Put text into a Markdown code block that it cannot leave."""
    longest = max([2, *map(len, _TICKS.findall(text))])
    fence = "`" * (longest + 1)
    return f"{fence}text\n{visible(text)}\n{fence}"


def cell(value: object) -> object:
    """Neutralise a CSV cell that a spreadsheet would take for a formula; numbers stay numbers.

    A bare carriage return, which pandas leaves unquoted and readers take for a new row, becomes a
    line feed.
    """
    if not isinstance(value, str):
        return value
    text = _lines(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def csv_text(frame: DataFrame) -> str:
    """Write a frame as CSV, its text cells and column names neutralised."""
    import pandas as pd

    safe = {}
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(object)
        text = column.dtype == object or pd.api.types.is_string_dtype(column)
        safe[str(cell(str(name)))] = column.map(cell) if text else column
    return str(pd.DataFrame(safe).to_csv(index=False, lineterminator="\n"))
