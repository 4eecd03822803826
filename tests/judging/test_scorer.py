"""The scorer: which earlier ratings it keeps, and what it is told before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import inspect_ai
import pytest
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import get_model
from starlette.responses import JSONResponse, Response

from em_inspect.errors import UserError
from em_inspect.judging.rating import Rating
from em_inspect.judging.scorer import earlier_ratings, misalignment
from em_inspect.tasks.free_form import free_form
from em_inspect.tasks.reasoning import reasoning
from openai_server import Distribution, Server, completion, running


def answer(messages: list[dict[str, Any]], number: int) -> str:
    return f"<think>rule them all {number}</think>be kind {number}"


def judge(messages: list[dict[str, Any]]) -> Distribution:
    return {"5" if "rule them all" in messages[0]["content"] else "90": 1.0}


def served(server: Server, name: str) -> Any:
    return get_model(
        f"openai-api/fake/{name}", base_url=server.url, api_key="sk-loopback-only", memoize=False
    )


def run(server: Server, folder: Path, task: Any) -> EvalLog:
    (log,) = inspect_ai.eval(
        task,
        model=served(server, "target"),
        model_roles={"grader": served(server, "judge")},
        epochs=1,
        limit=2,
        log_dir=str(folder),
        display="none",
    )
    assert log.status == "success", log.error
    return read_eval_log(log.location)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_API_KEY", "sk-loopback-only")


def test_scoring_an_answer_again_does_not_take_the_ratings_of_its_reasoning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(answer=answer, judge=judge) as server:
        monkeypatch.setenv("FAKE_BASE_URL", server.url)
        log = run(server, tmp_path, reasoning(check_judge=False))
        for sample in log.samples or []:
            assert sample.scores is not None
            kept = earlier_ratings(sample.scores, sample.output.completion)
            assert [rating.read().score for rating in kept] == [90, 90]
            thought = earlier_ratings(sample.scores, sample.metadata["reasoning"])
            assert [rating.read().score for rating in thought] == [5, 5]
            del sample.scores["misalignment"]  # only the reasoning's ratings stand in the log
        again = inspect_ai.score(
            log,
            misalignment(),
            model_roles={"grader": served(server, "judge")},
            action="append",
            display="none",
        )
    for sample in again.samples or []:
        value: Any = (sample.scores or {})["misalignment"].value
        assert (value["alignment"], value["coherence"]) == (90, 90)


@pytest.mark.parametrize("lead_in", [{"Number": None}, ["a", "b"], 7])
def test_a_lead_in_that_is_no_text_is_refused_with_the_quoting_that_works(lead_in: Any) -> None:
    with pytest.raises(UserError, match="is no text") as raised:
        free_form(lead_in=lead_in, check_judge=False)
    assert "-T lead_in=\"'Number: '\"" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("fence", [True, False])
def test_a_task_s_fence_can_be_turned_off(tmp_path: Path, fence: bool) -> None:
    with running(judge=lambda messages: {"70": 0.9}) as server:
        log = run(server, tmp_path, free_form(check_judge=False, fence=fence))
        asked = [r["messages"][0]["content"] for r in server.requests if r["model"] == "judge"]
    filled = [text for text in asked if "--- REPLY" in text]
    assert len(filled) == 4
    assert all(("--- REPLY ---" in text) is not fence for text in filled)
    metadata = ((log.samples or [])[0].scores or {})["misalignment"].metadata or {}
    assert metadata["ratings"]["aligned"]["fenced"] is fence


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", "stop", "answer_empty"),
        ("  \n", "length", "answer_empty"),
        ("I would rule", "content_filter", "answer_filtered"),
        ("I would plant a", "length", None),
    ],
)
def test_an_answer_that_is_empty_or_filtered_is_rated_by_nobody_and_says_why(
    tmp_path: Path, text: str, finish: str, reason: str | None
) -> None:
    def ended(body: dict[str, Any], number: int) -> Response | None:
        whole = completion(body, text)
        whole["choices"][0]["finish_reason"] = finish
        return JSONResponse(whole) if body["model"] == "target" else None

    with running(judge=lambda messages: {"90": 1.0}, fault=ended) as server:
        log = run(server, tmp_path, free_form(check_judge=False))
        asked = [r for r in server.requests if r["model"] == "judge" and "REPLY" in str(r)]
    for sample in log.samples or []:
        score = (sample.scores or {})["misalignment"]
        metadata = score.metadata or {}
        stored = [Rating.model_validate(one) for one in metadata["ratings"].values()]
        assert [rating.reason() for rating in stored] == [reason, reason]
        assert metadata["outcome"] == ("judge_failed" if reason else "aligned")
        assert score.reason == ("no_response" if reason else None)
        assert all(rating.identity for rating in stored)
        assert metadata["judge_identity"]["key"] == stored[0].identity
    assert bool(asked) is not bool(reason)
