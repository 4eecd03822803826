"""Why a judge gave no rating: exceptions and stop reasons sorted into named failures."""

from __future__ import annotations

from inspect_ai.model import ModelOutput

from em_inspect.errors import one_line
from em_inspect.judging.rating import Failure
from em_inspect.judging.reply import Reply

DETAIL = 500  # characters of a judge's words that a log keeps


def failed(error: BaseException) -> Reply:
    """Turn what a judge call raised into a reply that says why there is no rating."""
    return Reply(failure=reason(error), detail=one_line(error))


def unanswered(answer: str, ending: str | None) -> Failure | None:
    """Say why an answer is none that could be rated, or None where it can be.

    An answer that ran into its limit of tokens is rated as far as it goes.

    Args:
        answer: The text.
        ending: Why the model stopped, as Inspect names it, or None where that is unknown.
    """
    if ending == "content_filter":
        return "answer_filtered"
    return None if answer.strip() else "answer_empty"


def unusable(output: ModelOutput) -> Reply | None:
    """Return the failure that an output's stop reason tells of, or None where it can be read."""
    stopped: dict[str, Failure] = {"content_filter": "filtered", "model_length": "too_long"}
    failure = stopped.get(str(output.stop_reason))
    if not output.choices:
        failure = "empty"
    return Reply(failure=failure, detail=output.completion[:DETAIL]) if failure else None


def reason(error: BaseException) -> Failure:
    """Name the failure behind an exception, seen through the wrappers of retries and providers."""
    for cause in _causes(error):
        status = getattr(cause, "status_code", None)
        if status == 429:
            return "rate_limited"
        if isinstance(status, int) and status >= 500:
            return "server_error"
        if isinstance(status, int) and status >= 400:
            return "rejected"
        name = type(cause).__name__.lower()
        if "timeout" in name:
            return "timed_out"
        if "connect" in name:
            return "unreachable"
    return "error"


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        attempt = getattr(current, "last_attempt", None)
        current = (attempt.exception() if attempt is not None else None) or current.__cause__
    return found
