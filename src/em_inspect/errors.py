"""The one exception that users see as a plain line: what is wrong and what to type next."""

from __future__ import annotations

import ast
import importlib.util
import re

import click

from em_inspect.error_body import error_message


class UserError(click.ClickException):
    """A mistake of input or environment that the user can mend.

    Q: Why a click exception? A: `inspect`, `em-inspect` and `em-finetune` are click programs: all
    three print such an exception as one line on standard error and exit with code 1, without a
    traceback. Library callers catch it like any other exception; `str(error)` is the message.
    """

    def __str__(self) -> str:
        return self.message


def require_extra(extra: str, *modules: str) -> None:
    """Raise `UserError` naming the extra to install unless every module can be imported.

    Args:
        extra: Name of the optional dependency group, e.g. `local`.
        modules: Top-level module names that the group provides.
    """
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed: pip install 'em-inspect[{extra}]'")


_MARKUP = re.compile(
    r"\[/?(?:(?:bold|italic|underline|dim|red|green|blue|yellow|cyan|magenta|white|black) ?)+\]"
    r"|\[/\]"
)
"""What Inspect marks words of its errors with; other words in brackets are somebody's own."""
# Inspect puts the whole request in front of what the provider said.
_REQUEST = re.compile(r"^\s*Request:\n.*\n\n", re.DOTALL)
_STATUS = re.compile(r"Error code: (?P<status>\d{3}) - (?P<body>.*)", re.DOTALL)
_SHOWN = re.compile(r"\w+\((?P<argument>['\"].*['\"])\)", re.DOTALL)
_LONGEST = 200


def one_line(error: BaseException) -> str:
    """Say in at most 200 characters what an exception means: a service's own words first.

    Without Inspect's markup, line breaks, and the request that was sent. A retry's own exception
    says nothing, nor do wrappers: the failure of the last attempt is what a user needs.
    """
    cause = _cause(error)
    body = getattr(cause, "body", None)
    if body is None and hasattr(cause, "response"):
        body = _text_of(cause.response)
    status = getattr(cause, "status_code", None)
    said = error_message(body)
    if not said:
        text = str(getattr(cause, "message", None) or cause)
        status, said = _words_in(text)
    plain = " ".join(_MARKUP.sub("", said).replace("ERROR:", "").split())
    number = f" (HTTP {status})" if plain and isinstance(status, int) else ""
    room = _LONGEST - len(number)
    return (plain[:room] + number) or type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    for _ in range(9):  # nobody wraps deeper, and a chain may be a ring
        attempt = getattr(error, "last_attempt", None)
        inner = attempt.exception() if attempt is not None else None
        if inner is None and hasattr(error, "provider_message"):
            inner = error.__cause__
        if inner is None:
            return error
        error = inner
    return error


def _text_of(response: object) -> str:
    try:
        return str(getattr(response, "text", ""))
    except Exception:  # a stream that nobody has read
        return ""


def _words_in(text: str) -> tuple[int | None, str]:
    """Status and words of a message that wraps a service's answer, as logs keep it."""
    text = _REQUEST.sub("", text, count=1).strip()
    shown = _SHOWN.fullmatch(text)
    text = str(_literal(shown["argument"])) if shown else text
    match = _STATUS.search(text)
    if match is None:
        return None, error_message(text) or text
    return int(match["status"]), error_message(_literal(match["body"]))


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
