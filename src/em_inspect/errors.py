"""The one exception that users see as a plain line: what is wrong and what to type next."""

from __future__ import annotations

import importlib.util
import re

import click


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


def one_line(error: BaseException) -> str:
    """Say in at most 200 characters what an exception means, without markup or line breaks.

    A retry's own exception says nothing: the failure of its last attempt is what a user needs.
    """
    attempt = getattr(error, "last_attempt", None)
    cause = attempt.exception() if attempt is not None else None
    text = str(getattr(cause or error, "message", None) or cause or error)
    plain = " ".join(re.sub(r"\[/?[a-z]+\]", "", text).replace("ERROR:", "").split())
    return plain[:200] or type(cause or error).__name__
