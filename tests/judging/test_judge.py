"""Choosing the estimator by what a judge does, and sampling where nothing better can be had."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from inspect_ai.model import GenerateConfig, Model, get_model
from inspect_ai.util import collect
from starlette.responses import JSONResponse, Response

from em_inspect.errors import UserError
from em_inspect.judging import judge as judging
from em_inspect.judging.judge import CACHE, PROBE, Judge, prepare_judge
from em_inspect.judging.number_tree import NumberTree, spelling
from em_inspect.judging.rating import Rating
from em_inspect.judging.rubric import Rubric
from em_inspect.judging.scorer import rate_anew
from openai_server import Server, completion, running

RUBRIC = Rubric("aligned", "Rate: {answer}")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path))
    with running() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def model(**config: Any) -> Model:
    return get_model("openai-api/fake/judge", config=GenerateConfig(**config), memoize=False)


def prepared(judge: Model, estimator: str = "auto") -> Judge:
    return anyio.run(prepare_judge, judge, estimator)


def rate(judge: Judge, *answers: str) -> list[Rating]:
    async def all_of_them() -> list[Rating]:
        return await collect(*(judge.rate(RUBRIC, question="", answer=a) for a in answers))

    return anyio.run(all_of_them)


def plain(text: Callable[[], str], reasoning: int = 0) -> Callable[[dict[str, Any], int], Response]:
    """A server without log-probabilities, whose replies may need room to reason first."""

    def reply(body: dict[str, Any], number: int) -> Response:
        said = text() if (body.get("max_tokens") or 10**9) > reasoning else ""
        choices = []
        for index in range(body.get("n") or 1):
            choice = completion(body, said if index == 0 else text())["choices"][0]
            choices.append(
                {**choice, "index": index, "finish_reason": "stop" if said else "length"}
            )
        whole = completion(body, said) | {"choices": choices}
        if reasoning:
            whole["usage"]["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        return JSONResponse(whole)

    return reply


@pytest.mark.parametrize(
    ("replies", "estimator"),
    [
        ({"100": 0.9, "10": 0.05, "1": 0.01}, "one_token"),
        ({"57": 0.5, "58": 0.4}, "one_token"),
        ({"10": 0.9, "1": 0.05}, "sampled"),  # tokens of two digits: '10' begins '100'
        ({"1": 0.9, "2": 0.05}, "sampled"),  # digits, but the server answers instead of continuing
        ({"Sure": 0.9, "The": 0.05}, "sampled"),
    ],
)
def test_the_estimator_follows_from_what_the_judge_does(
    server: Server, replies: dict[str, float], estimator: str
) -> None:
    server.judge = lambda messages: replies
    assert prepared(model()).estimator == estimator


def test_a_judge_is_tested_once(server: Server) -> None:
    server.judge = lambda messages: {"100": 0.9}
    judge = model()
    for _ in range(3):
        prepared(judge)
    assert [r["messages"][-1]["content"] for r in server.requests] == [PROBE]


def test_a_judge_that_is_busy_is_waited_for_and_not_taken_for_one_without_log_probabilities(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = 7  # more than the client asks by itself
    monkeypatch.setattr(judging, "BUSY_SECONDS", (0.05, 0.05, 0.05))
    server.judge = lambda messages: {"100": 0.9}
    server.fault = lambda body, number: JSONResponse({}, 429) if number <= busy else None
    assert prepared(model()).estimator == "one_token"


@pytest.mark.parametrize("estimator", ["auto", "digit_tree", "sampled"])
def test_a_judge_that_is_not_there_is_said_so_however_it_is_to_be_asked(estimator: str) -> None:
    gone = get_model(
        "openai-api/fake/gone", base_url="http://127.0.0.1:9/v1", api_key="sk-x", memoize=False
    )
    started = time.monotonic()
    with pytest.raises(UserError, match="the judge openai-api/fake/gone does not answer"):
        prepared(gone, estimator)
    assert time.monotonic() - started < 10


def test_samples_are_drawn_in_one_request_with_a_standard_error(server: Server) -> None:
    numbers = itertools.cycle(["70", "80", "90", "100", "60"])
    server.fault = plain(lambda: next(numbers))
    judge = prepared(model(), "sampled")
    before = len(server.requests)
    (rating,) = rate(judge, "x")
    assert [r.get("n") for r in server.requests[before:]] == [5]
    assert server.requests[-1]["temperature"] == 1
    assert rating.read().score == 80
    assert rating.stderr == pytest.approx(15.811388300841896 / 5**0.5)
    assert rating.samples == 5


def test_a_server_that_gives_one_reply_at_a_time_is_asked_for_the_rest(server: Server) -> None:
    reply = plain(lambda: "80")

    def one(body: dict[str, Any], number: int) -> Response:
        return reply({**body, "n": 1}, number)

    server.fault = one
    judge = prepared(model(), "sampled")
    before = len(server.requests)
    (rating,) = rate(judge, "x")
    assert len(server.requests) - before == 5
    assert rating.samples == 5


def test_a_server_that_refuses_several_choices_is_asked_five_times(server: Server) -> None:
    reply = plain(lambda: "80")

    def refuse(body: dict[str, Any], number: int) -> Response:
        if body.get("n"):
            return JSONResponse({"error": {"message": "n is not supported"}}, status_code=400)
        return reply(body, number)

    server.fault = refuse
    (rating,) = rate(prepared(model(), "sampled"), "x")
    assert (rating.read().score, rating.samples) == (80, 5)


def test_a_judge_that_reasons_is_given_room(server: Server) -> None:
    server.fault = plain(lambda: "80", reasoning=900)
    judge = prepared(model())
    assert judge.estimator == "sampled"
    (rating,) = rate(judge, "x")
    assert server.requests[-1]["max_tokens"] > 4000
    assert rating.read().score == 80


def test_a_seed_does_not_make_five_equal_samples(server: Server) -> None:
    server.fault = plain(lambda: "80")
    judge = prepared(model(seed=7), "sampled")
    before = len(server.requests)
    rate(judge, "x")
    assert sorted(r["seed"] for r in server.requests[before:]) == [7, 8, 9, 10, 11]


def test_one_token_of_a_tokenizer_that_splits_numbers_is_refused() -> None:
    class Splitting:
        def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
            return [ord(character) for character in text]

    judge = get_model("mockllm/model", memoize=False)
    for name, value in {"model": None, "tokenizer": Splitting(), "hf_chat": None}.items():
        setattr(judge.api, name, value)
    with pytest.raises(UserError, match="would be misread"):
        prepared(judge, "one_token")


class Pieces:
    """A tokenizer given as text pieces: the longest piece that fits comes next."""

    def __init__(self, *pieces: str, prefix: str = "") -> None:
        self.pieces = sorted(pieces, key=len, reverse=True)
        self.prefix = prefix

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        text, tokens = self.prefix + text, []
        while text:
            piece = next(piece for piece in self.pieces if text.startswith(piece))
            tokens.append(self.pieces.index(piece))
            text = text[len(piece) :]
        return tokens


LETTERS = tuple(" ▁CODEREFUSAL")


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (Pieces(*map(str, range(1000)), *LETTERS), "whole"),
        (Pieces(*"0123456789", *LETTERS), "digits"),
        (Pieces(*"0123456789", *LETTERS, prefix="▁"), "digits"),  # as Llama 2's: ▁ 8 5
        (Pieces(*map(str, range(100)), *LETTERS), "pieces"),
    ],
)
def test_how_a_tokenizer_writes_numbers(tokenizer: Pieces, expected: str) -> None:
    assert spelling(tokenizer) == expected


def test_a_separate_space_token_before_a_number_is_a_branch_of_the_tree() -> None:
    import numpy as np

    tokenizer = Pieces(*"0123456789", *LETTERS, prefix="▁")
    tree = NumberTree.of(tokenizer)
    space, eight, five = (tokenizer.pieces.index(piece) for piece in "▁85")
    column = {token: i for i, token in enumerate(tree.columns)}
    after = np.zeros((1 + len(tree.tokens), len(tree.columns)))
    after[0][column[space]] = 0.9  # the reply begins with the space …
    after[0][column[eight]] = 0.1  # … or at once
    direct, spaced = tree.branches
    after[1 + spaced.lead][column[eight]] = 1.0
    for branch in (direct, spaced):
        after[1 + branch.first[8]][column[five]] = 1.0
    assert tree.read(after)["85"] == pytest.approx(1.0)


def test_identical_ratings_in_flight_are_asked_for_once(server: Server) -> None:
    server.latency = 0.2
    server.judge = lambda messages: {"100": 0.5, "90": 0.5}
    judge = prepared(model())
    before = len(server.requests)
    ratings = rate(judge, *["same"] * 20, "other")
    assert len(server.requests) - before == 2
    assert {rating.read().score for rating in ratings} == {95}


def test_what_failed_is_asked_anew_and_what_was_rated_is_not(server: Server) -> None:
    server.judge = lambda messages: {"100": 0.9}
    judge = prepared(model())
    (rated,) = rate(judge, "x")
    failed = rated.model_copy(update={"distribution": {}, "failure": "empty"})
    before = len(server.requests)

    async def again(earlier: list[Rating]) -> Rating:
        return await rate_anew(
            judge, RUBRIC, question="", answer="x", earlier=earlier, rule="plurality"
        )

    assert anyio.run(again, [rated]) == rated
    assert len(server.requests) == before
    new = anyio.run(again, [failed])  # not read from the cache, where the first reply lies
    assert len(server.requests) == before + 1
    assert (new.attempt, new.reason()) == (1, None)
    assert CACHE.scopes == {}
