"""Word judges: what they say, and why there is no word where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from inspect_ai.model import GenerateConfig, Model, get_model
from starlette.responses import JSONResponse, Response

from em_inspect.judging.rubric import Rubric
from em_inspect.judging.words import TRUTH, WordRating, ask_word
from openai_server import Server, completion, running


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path))
    with running() as server:
        yield server


def model(url: str) -> Model:
    return get_model(
        "openai-api/fake/judge",
        base_url=url,
        api_key="sk-loopback-only",
        config=GenerateConfig(max_retries=0, attempt_timeout=10),
        max_retries=0,
        memoize=False,
    )


def asked(judge: Model) -> WordRating:
    rubric = Rubric("correct", "{question} {answer} Say TRUE, FALSE or UNKNOWN.")

    async def ask() -> WordRating:
        return await ask_word(judge, rubric, TRUTH, question="?", answer="!")

    return anyio.run(ask)


def status(code: int) -> Response:
    return JSONResponse({"error": {"message": f"status {code}"}}, status_code=code)


def said(text: str, finish: str = "stop") -> Response:
    body = completion({"model": "judge"}, text)
    body["choices"][0]["finish_reason"] = finish
    return JSONResponse(body)


@pytest.mark.parametrize(
    ("reply", "word", "failure"),
    [
        (said("FALSE"), "FALSE", None),
        (said("It depends"), None, "no_word"),
        (said(""), None, "empty"),
        (said("", "content_filter"), None, "filtered"),
        (status(429), None, "rate_limited"),
        (status(500), None, "server_error"),
        (status(401), None, "rejected"),
    ],
)
def test_each_failure_has_its_own_reason(
    server: Server, reply: Response, word: str | None, failure: str | None
) -> None:
    server.fault = lambda body, number: reply
    rating = asked(model(server.url))
    assert (rating.word, rating.failure) == (word, failure)


def test_a_judge_that_is_not_there_is_unreachable() -> None:
    rating: Any = asked(model("http://127.0.0.1:9/v1"))
    assert (rating.word, rating.failure) == (None, "unreachable")
    assert "onnect" in rating.detail


@pytest.mark.parametrize(
    ("answer", "ending", "failure"),
    [
        ("", "stop", "answer_empty"),
        ("half a", "content_filter", "answer_filtered"),
        ("half a", "max_tokens", None),
    ],
)
def test_an_answer_that_is_none_is_not_put_before_the_judge(
    server: Server, answer: str, ending: str, failure: str | None
) -> None:
    server.fault = lambda body, number: said("FALSE")
    rubric = Rubric("correct", "{answer} Say TRUE, FALSE or UNKNOWN.")

    async def ask() -> WordRating:
        return await ask_word(
            model(server.url), rubric, TRUTH, question="?", answer=answer, ending=ending
        )

    rating = anyio.run(ask)
    assert (rating.failure, rating.word) == (failure, None if failure else "FALSE")
    assert len(server.requests) == (failure is None)
