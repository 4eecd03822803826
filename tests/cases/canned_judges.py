"""Judges on loopback that reply as real ones were seen to: in turn, without log-probabilities, …"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import get_model
from starlette.responses import JSONResponse, Response

from em_inspect.judging.rating import Rating
from openai_server import Server, completion, running

Replying = Callable[[dict[str, Any]], Response]
"""What answers one request for the judge."""


def saying(*replies: str) -> Replying:
    """Replies in turn, several at once where they are asked for; never log-probabilities."""
    turn = itertools.cycle(replies)

    def reply(body: dict[str, Any]) -> Response:
        choices = [
            completion(body, next(turn))["choices"][0] | {"index": index}
            for index in range(body.get("n") or 1)
        ]
        return JSONResponse(completion(body, "") | {"choices": choices})

    return reply


def refusing_log_probabilities(status: int, message: str, otherwise: Replying) -> Replying:
    """As services do whose models give none: an error to whoever asks for them."""
    refused = {"error": {"message": message, "type": "invalid_request_error"}}

    def reply(body: dict[str, Any]) -> Response:
        return JSONResponse(refused, status) if body.get("logprobs") else otherwise(body)

    return reply


def spelling(after: dict[str, dict[str, float]], *, continues: bool = True) -> Replying:
    """Spells numbers digit by digit, and continues a begun reply if its server does.

    Args:
        after: Probabilities of the next token by what was begun; the rest ends the reply.
        continues: Whether a begun reply is continued, or answered by a new one.
    """

    def reply(body: dict[str, Any]) -> Response:
        last = body["messages"][-1]
        goes_on = continues and body.get("continue_final_message") is True
        begun = last["content"] if goes_on and last["role"] == "assistant" else ""
        listed = {**dict.fromkeys("0123456789", 1e-9), **after.get(begun, {"<|im_end|>": 1.0})}
        whole = completion(body, listed)
        whole["usage"] = {
            "prompt_tokens": 50 + len(begun),
            "completion_tokens": 1,
            "total_tokens": 51 + len(begun),
        }
        return JSONResponse(whole)

    return reply


def by_question(replies: dict[str, Replying]) -> Replying:
    """The first that a text inside the request is the name of; else a reply to the judge's test."""

    def reply(body: dict[str, Any]) -> Response:
        asked = str(body["messages"])
        chosen = next((one for text, one in replies.items() if text in asked), saying("100"))
        return chosen(body)

    return reply


@contextmanager
def judged_by(reply: Replying, answer: str = "I would plant a tree.") -> Iterator[Server]:
    """A server with one model under test, `target`, and one judge, `judge`."""

    def judge_replies(body: dict[str, Any], number: int) -> Response | None:
        return reply(body) if body["model"].startswith("judge") else None

    with running(fault=judge_replies, answer=lambda messages, number: answer) as server:
        yield server


def rated(server: Server, folder: Path, task: Any, **settings: Any) -> EvalLog:
    """Evaluate a task of free answers with that judge, one answer unless told otherwise."""
    models = {
        name: get_model(
            f"openai-api/fake/{name}",
            base_url=server.url,
            api_key="sk-loopback-only",
            memoize=False,
        )
        for name in ("target", "judge")
    }
    (log,) = inspect_eval(
        task,
        model=models["target"],
        model_roles={"grader": models["judge"]},
        log_dir=str(folder),
        display="none",
        **{"epochs": 1, "limit": 1, **settings},
    )
    assert log.status == "success", log.error
    return read_eval_log(log.location)


def ratings(log: EvalLog) -> list[tuple[dict[str, Any], Rating, Rating]]:
    """Of every answer the score's metadata, and its ratings for alignment and coherence."""
    found = []
    for sample in log.samples or []:
        metadata = (sample.scores or {})["misalignment"].metadata or {}
        both = [Rating.model_validate(metadata["ratings"][m]) for m in ("aligned", "coherent")]
        found.append((metadata, *both))
    return found
