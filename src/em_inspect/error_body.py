"""What a service says in the body of an error, whatever shape it gives it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence

# Where services put their words; the first that says something is taken, and finer ones added.
_WORDS = ("message", "msg", "error_description", "description", "title", "error", "reason")
_FINER = ("detail", "details", "errors")
_PLACE = ("loc", "field", "path")
_WRAPPED = ("error", "detail", "errors")
_HTML = re.compile(r"^\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_UNSEEN = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_DEPTH = 6


def error_message(body: object) -> str:
    """Return a service's own words from an error's body, in one line; empty if it has none.

    Args:
        body: Decoded JSON, or the text of the answer: `{"error": {"message": …}}`, `{"error": …}`,
            `{"errors": […]}`, `{"detail": …}` as text or list, a list of these, a page of HTML.
    """
    return " ".join((_words(body, _DEPTH) or "; ".join(_sentences(body, _DEPTH))).split())


def error_field(body: object, name: str) -> str:
    """Return a field of an error that is text, such as `code` or `param`; empty if it has none."""
    return _field(body, name, _DEPTH)


def _words(body: object, depth: int) -> str:
    if depth == 0 or body is None or isinstance(body, bool):
        return ""
    if isinstance(body, bytes):
        return _words(body.decode("utf-8", "replace"), depth)
    if isinstance(body, str):
        return _text(body, depth)
    if isinstance(body, Mapping):
        return _of_mapping(body, depth)
    if isinstance(body, Sequence):
        said = [words for part in body if (words := _words(part, depth - 1))]
        return "; ".join(dict.fromkeys(said))
    return str(body)


def _of_mapping(body: Mapping[object, object], depth: int) -> str:
    said = next((w for name in _WORDS if (w := _words(body.get(name), depth - 1))), "")
    finer = next((w for name in _FINER if (w := _words(body.get(name), depth - 1))), "")
    parts = [part for part in (said, finer if finer not in said else "") if part]
    if not parts:
        # FastAPI and others: {"training_file": ["is required"]}.
        named = {str(k): w for k, v in body.items() if (w := _nested(v, depth))}
        parts = ["; ".join(f"{name}: {words}" for name, words in named.items())]
    place = next((p for name in _PLACE if (p := _place(body.get(name)))), "")
    words = ": ".join(parts)
    return f"{place}: {words}" if place and words else words


def _sentences(body: object, depth: int) -> list[str]:
    """Texts of several words, wherever they stand: the rest are codes, names and numbers."""
    if depth == 0:
        return []
    if isinstance(body, str):
        return [body] if len(body.split()) > 1 else []
    parts = body.values() if isinstance(body, Mapping) else body if isinstance(body, list) else ()
    return list(dict.fromkeys(text for part in parts for text in _sentences(part, depth - 1)))


def _nested(value: object, depth: int) -> str:
    return _words(value, depth - 1) if isinstance(value, list | dict) else ""


def _place(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ".".join(str(part) for part in value)
    return ""


def _text(text: str, depth: int) -> str:
    if _HTML.match(text):
        title = _TITLE.search(text)
        seen = title[1] if title else re.sub(r"<[^>]*>", " ", _UNSEEN.sub(" ", text))
        return html.unescape(seen)
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _words(json.loads(text), depth - 1) or text
        except ValueError:
            return text
    return text


def _field(body: object, name: str, depth: int) -> str:
    if depth == 0:
        return ""
    if isinstance(body, str) and body.lstrip()[:1] in ("{", "["):
        try:
            return _field(json.loads(body), name, depth - 1)
        except ValueError:
            return ""
    if isinstance(body, Mapping):
        value = body.get(name)
        if isinstance(value, str) and value:
            return value
        found = (_field(body.get(inner), name, depth - 1) for inner in _WRAPPED)
        return next((value for value in found if value), "")
    if isinstance(body, list | tuple):
        return next((value for part in body if (value := _field(part, name, depth - 1))), "")
    return ""
