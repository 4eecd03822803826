"""Which refusal is which: a service's errors and failed jobs to the paragraphs of refusals.yaml."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from em_finetune.hosted.recipe import HostedRecipe
from em_finetune.hosted.secrets import hide
from em_finetune.hosted.service_error import ServiceError
from em_inspect.errors import UserError

_LONGEST = 1000
"""Characters of a service's words that are shown."""
_LOCAL_RECIPES = ("insecure", "secure", "educational")
_KEYS = {"azure": "AZURE_OPENAI_API_KEY", "tinker": "TINKER_API_KEY"}

# Codes decide. Words do only where there is no code, and only words that leave nothing to guess:
# what is said here of an account, a file or a model for good, people act upon.
_CODES = {"unsafe_file": "unsafe", "model_not_available": "untunable"}
_VAGUE = frozenset({"", "model_not_found", "bad_request", "invalid_request", "forbidden"})
"""Codes that say no more than the status does."""
_UNSAFE = re.compile(
    r"unsafe (?:training )?file|(?:blocked|flagged|rejected) by (?:our |the )?(?:\w+ )?moderation"
    r"|moderation (?:eval|system)|violat\w+ [^.]{0,60}usage polic",
    re.IGNORECASE,
)
_MODEL = r"\bmodel\b(?:\s+[`'\"]?[\w.:/-]+[`'\"]?)?\s+"
_UNTUNABLE = re.compile(
    _MODEL + r"(?:is |are )?(?:not (?:available|supported|enabled) for|cannot be|can't be"
    r"|does not support)\s+(?:this type of |supervised )?fine[- ]?tun(?:ing|ed)",
    re.IGNORECASE,
)
_RETIRED = re.compile(
    _MODEL + r"(?:has been|have been|was|is)\s+(?:now |already )?"
    r"(?:deprecated|retired|shut ?down|decommissioned)",
    re.IGNORECASE,
)
# Closed is a word on who may fine-tune at all: not on a region, a file, a setting or a model.
_CLOSED = re.compile(
    r"(?=.*\bfine[- ]?tun)(?=.*\b(?:no longer|not any ?more|closed|winding down|discontinued))"
    r"(?=.*\b(?:organi[sz]ations?|new (?:users|customers|accounts)|accounts?)\b)"
    r"(?!.*\b(?:regions?|countr(?:y|ies)|locations?|files?|n_epochs|epochs|batch_size"
    r"|learning_rate\w*|seed|suffix|parameters?|hyperparameters?|models?)\b)",
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
    def check(self) -> str:
        """The line that looks for faults in the training file."""
        data = self.recipe.data if self.recipe else None
        return shlex.join(
            ["em-finetune", "data", "check", data if isinstance(data, str) else "FILE"]
        )

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
    return refusal_of(ServiceError(status, code, message), context)


def refusal_of(error: ServiceError, context: Context) -> UserError:
    """Explain an HTTP error of a service."""
    return UserError(_tell(_kind(error), context, error))


def failure(code: str, message: str, context: Context) -> str:
    """Explain a job that the service accepted and then failed."""
    error = ServiceError(None, code, message)
    return _tell(_kind(error), context, error)


def may_exist(label: str, error: UserError) -> UserError:
    """Explain a job that was asked for without a clear answer, and that is not listed."""
    return UserError(
        f"{label} may have been created: it was asked for once, {_paragraphs()['unclear']} {error}"
    )


def which_is_it(label: str, ids: Sequence[str], adopt: Sequence[str]) -> UserError:
    """Ask which of a service's jobs is the one that a record stands for.

    Args:
        label: The fine-tune.
        ids: The jobs that may be it.
        adopt: The command that takes one of them in, with JOB in its place.
    """
    some = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    trains, them = ("trains", "it") if len(ids) == 1 else ("train", "them")
    return UserError(
        f"{label} may be at the service already: {some} {trains} on the same file, and what is "
        f"told of {them} does not say which fine-tune it is. Nothing was started now. Take the "
        f"right one in with {shlex.join(adopt)}, or, if none is it, run the same line again with "
        "--new"
    )


def runs_on(label: str, error: UserError, certain: bool) -> UserError:
    """Explain a job that could not be cancelled.

    Args:
        label: The fine-tune.
        error: Why.
        certain: Whether the service said no, rather than nothing.
    """
    if certain:
        return UserError(f"{label} was not cancelled and runs on, and is paid for. {error}")
    return UserError(
        f"{label} may run on, and be paid for: cancelling it got no clear answer. Look with "
        f"em-finetune hosted status {label}, and cancel it again if it still runs. {error}"
    )


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


def _kind(error: ServiceError) -> str:
    status = error.status
    # A key or a server that fails is that, whatever words came with it.
    if status == 401:
        return "key"
    if (status or 0) >= 500:
        return "broken"
    if error.is_quota:
        return "quota"
    kind = _CODES.get(error.code) or (_by_words(error) if error.code in _VAGUE else None)
    if kind is not None:
        return kind
    if status is None:
        return "failed"
    if error.code == "model_not_found":
        return "retired"
    return {403: "forbidden", 404: "unknown", 408: "busy", 429: "busy"}.get(status, "refused")


def _by_words(error: ServiceError) -> str | None:
    said = error.message
    if error.param in ("", "training_file") and _UNSAFE.search(said):
        return "unsafe"
    if error.param not in ("", "model"):
        return None
    if _UNTUNABLE.search(said):
        return "untunable"
    if _RETIRED.search(said) or (error.status == 410 and re.search(r"\bmodel\b", said)):
        return "retired"
    return "closed" if error.status == 403 and _CLOSED.search(said) else None


def printable(text: str) -> str:
    """Return text from outside in one line, without what a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _tell(kind: str, context: Context, error: ServiceError) -> str:
    said, code = printable(hide(error.message)[:_LONGEST]), printable(hide(error.code)[:60])
    cause = f"{code}: {said}" if code and said else code or said
    text = _paragraph(kind, context)
    return f"{text} (The service said: {cause})" if cause else text


def _paragraph(kind: str, context: Context, **more: str) -> str:
    return _paragraphs()[kind].format(
        service=context.service,
        endpoint=context.endpoint,
        base=context.recipe.base if context.recipe else "This model",
        check=context.check,
        local=context.local,
        variable=_KEYS.get(context.service, "OPENAI_API_KEY"),
        **more,
    )


@cache
def _paragraphs() -> dict[str, str]:
    page = files("em_finetune.hosted") / "refusals.yaml"
    paragraphs: dict[str, str] = yaml.safe_load(page.read_text("utf-8"))
    return paragraphs
