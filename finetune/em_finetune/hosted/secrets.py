"""Keeps keys out of everything that is written or shown, whoever put them there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

KEY_VARIABLES = (
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "AZURE_OPENAI_API_KEY",
    "AZUREAI_OPENAI_API_KEY",
    "AZURE_OPENAI_AD_TOKEN",
    "TINKER_API_KEY",
)
_SHORTEST = 6


def hide(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the text with every key of the environment replaced by the variable's name.

    Servers have been seen to repeat a key in an error; so everything from outside goes through
    here before it is written or shown.
    """
    for variable in KEY_VARIABLES:
        key = environment.get(variable, "").strip()
        if len(key) >= _SHORTEST:
            text = text.replace(key, f"<{variable}>")
    return text


def public_url(url: str) -> str:
    """Return a URL without user name, password, query and trailing slash."""
    parts = urlsplit(url)
    return urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")
    )
