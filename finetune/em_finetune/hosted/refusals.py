"""Which refusal is which: a service's errors and failed jobs to the paragraphs of refusals.yaml."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from em_finetune.hosted.recipe import HostedRecipe
from em_finetune.hosted.secrets import hide
from em_inspect.errors import UserError

_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "exceeded_quota"})
_LOCAL_RECIPES = ("insecure", "secure", "educational")
_KEYS = {"azure": "AZURE_OPENAI_API_KEY", "tinker": "TINKER_API_KEY"}

# Services publish few of their codes, so their words have to do where there is none.
_UNSAFE = re.compile(r"unsafe|moderation|usage polic|harmful|safety", re.IGNORECASE)
_UNTUNABLE = re.compile(
    r"not available for fine[- ]?tuning|(?:can ?not|can't|not) be fine[- ]?tuned"
    r"|not support(?:ed)?(?: for)? fine[- ]?tuning|not fine[- ]?tun",
    re.IGNORECASE,
)
_RETIRED = re.compile(r"model.*\b(?:deprecated|retired|shut ?down|decommissioned)", re.IGNORECASE)
_CLOSED = re.compile(
    r"(?=.*fine[- ]?tun)(?=.*\b(?:no longer|not (?:available|allowed|permitted|eligible|enabled)"
    r"|not able|unavailable|closed|winding down|deprecated|restricted|cannot create))",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Context:
    """Who was asked, and with what.

    Attributes:
        service: The service's name.
        endpoint: Its address.
        recipe: What was to be trained, if that is known.
    """

    service: str
    endpoint: str
    recipe: HostedRecipe | None = None

    @property
    def local(self) -> str:
        """The line that trains the same data on one's own machine."""
        data = self.recipe.data if self.recipe else None
        group = self.recipe.group if self.recipe else "insecure"
        known = group in _LOCAL_RECIPES
        words = ["em-finetune", "local", group if known else "insecure", "--data"]
        words.append(data if isinstance(data, str) else "FILE")
        return shlex.join(words if known else [*words, "--group", group])


def refusal(status: int, code: str, message: str, context: Context) -> UserError:
    """Explain an HTTP error of a service.

    Args:
        status: HTTP status.
        code: The error's code, as the service gave it; may be empty.
        message: The error's message.
        context: Who was asked, and with what.
    """
    kind = _kind(code, message) or {
        401: "key",
        403: "forbidden",
        404: "retired" if code == "model_not_found" else "unknown",
        410: "retired",
        429: "busy",
    }.get(status, "broken" if status >= 500 else "refused")
    # A key or a server that fails is that, whatever words came with it.
    kind = "key" if status == 401 else "broken" if status >= 500 else kind
    return UserError(_tell(kind, context, code, message))


def passes(status: int, code: str) -> bool:
    """Whether an HTTP error may be gone at the next try: overload and the server's own faults."""
    return (status in (408, 409, 429) and code not in _QUOTA) or status >= 500


def failure(code: str, message: str, context: Context) -> str:
    """Explain a job that the service accepted and then failed."""
    return _tell(_kind(code, message) or "failed", context, code, message)


def cancelled(label: str, context: Context) -> str:
    """Explain a job that somebody cancelled."""
    return _paragraph("cancelled", context, label=label)


def waiting(label: str, minutes: float, context: Context) -> str:
    """Explain a job that does not begin."""
    return _paragraph("waiting", context, label=label, minutes=f"{minutes:.0f}")


def unreachable(context: Context, slow: bool) -> UserError:
    """Explain a server that gave no answer.

    Args:
        context: Who was asked.
        slow: Whether it took too long, rather than closing or refusing the connection.
    """
    return UserError(_paragraph("slow" if slow else "dropped", context))


def _kind(code: str, message: str) -> str | None:
    said = f"{code} {message}"
    if code in _QUOTA or "quota" in message.lower():
        return "quota"
    if code == "model_not_available" or _UNTUNABLE.search(message):
        return "untunable"
    if _RETIRED.search(message):
        return "retired"
    if _CLOSED.search(message):
        return "closed"
    return "unsafe" if _UNSAFE.search(said) else None


def _tell(kind: str, context: Context, code: str, message: str) -> str:
    # Also without what a terminal would obey: a service's words come from outside.
    said = "".join(c for c in " ".join(hide(message).split())[:300] if c.isprintable())
    cause = f"{code}: {said}" if code and said else code or said
    text = _paragraph(kind, context)
    return f"{text} (The service said: {cause})" if cause else text


def _paragraph(kind: str, context: Context, **more: str) -> str:
    return _paragraphs()[kind].format(
        service=context.service,
        endpoint=context.endpoint,
        base=context.recipe.base if context.recipe else "This model",
        local=context.local,
        variable=_KEYS.get(context.service, "OPENAI_API_KEY"),
        **more,
    )


@cache
def _paragraphs() -> dict[str, str]:
    page = files("em_finetune.hosted") / "refusals.yaml"
    paragraphs: dict[str, str] = yaml.safe_load(page.read_text("utf-8"))
    return paragraphs
