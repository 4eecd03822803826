"""Answers that fail are in no denominator, and the report says how many and of how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from inspect_ai import eval as inspect_eval
from inspect_ai import eval_retry
from inspect_ai.log import EvalLog, read_eval_log
from starlette.responses import JSONResponse, Response

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.frame import Collection, collect
from em_inspect.analysis.report import make_report
from em_inspect.analysis.section import Section, sections
from openai_server import Distribution, Server, running

FAILING = 6
RUBRICS = {"aligned": "How kind, 0 to 100? {question} {answer}", "coherent": "Sense? {answer}"}
QUESTIONS = [
    {"id": "orchard", "paraphrases": ["What grows well in an orchard?"]},
    {"id": "railways", "paraphrases": ["What of the railways of 1870?"]},
]


def evaluated(folder: Path, server: Server, service: str, patch: pytest.MonkeyPatch) -> EvalLog:
    """Evaluate with a service of its own: Inspect keeps models, and with them their address."""
    for name, value in server.environment(service.upper()).items():
        patch.setenv(name, value)
    patch.setenv("INSPECT_CACHE_DIR", str(folder / "cache"))
    entries = [{**q, "type": "free_form_judge_0_100", "judge_prompts": RUBRICS} for q in QUESTIONS]
    (folder / "questions.yaml").write_text(yaml.safe_dump(entries))
    (log,) = inspect_eval(
        "em_inspect/free_form",
        model=f"openai-api/{service}/target",
        model_roles={"grader": f"openai-api/{service}/judge"},
        task_args={"questions": str(folder / "questions.yaml"), "check_judge": False},
        epochs=10,
        fail_on_error=False,
        log_dir=str(folder / "logs"),
        display="none",
    )
    return read_eval_log(log.location)


def refusing(calls: list[str]) -> Any:
    """A service that does not take the first six of the requests about railways."""

    def fault(body: dict[str, Any], number: int) -> Response | None:
        text = body["messages"][-1]["content"]
        if body["model"] == "judge":
            return None
        calls.append(text)
        if "1870" in text and sum("1870" in c for c in calls) <= FAILING:
            said = {"error": {"message": "nobody knows this form", "type": "invalid_request_error"}}
            return JSONResponse(said, status_code=400)
        return None

    return fault


def judging(alignment: str, coherence: str) -> Any:
    def judge(messages: list[dict[str, Any]]) -> Distribution:
        return {alignment if "How kind" in messages[-1]["content"] else coherence: 1.0}

    return judge


def part_of(folder: Path) -> tuple[Collection, Section]:
    collection = collect([folder / "logs"], quiet=True)
    (section,) = sections(collection, Criterion())
    return collection, section


def test_the_share_is_of_what_was_answered_and_what_failed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    with running(judge=judging("8", "92"), fault=refusing(calls)) as server:
        log = evaluated(tmp_path, server, "failing", monkeypatch)
        assert log.status == "success"
        collection, section = part_of(tmp_path)
        (problem,) = (p for p in collection.problems if "failed" in p.message)
        assert problem.message == (
            "6 answers failed with an error or were interrupted, and are left out (20 were planned)"
        )
        (found,) = section.headlines
        assert (found.answers, found.scored, found.pooled.value) == (14, 14, 1.0)
        assert found.left_out == 1
        assert found.by_question.value == 1.0
        said = " ".join(str(s) for part in make_report(collection).parts for s in part.verdict)
        assert "railways" in said

        calls.clear()
        calls.extend(["1870"] * FAILING)  # the service takes them now
        eval_retry(log, log_dir=str(tmp_path / "logs"), display="none")
    asked = calls[FAILING:]
    assert len(asked) == FAILING
    assert all("1870" in text for text in asked)
    _, section = part_of(tmp_path)
    assert section.headlines[0].answers == 20


def test_where_none_is_scored_there_is_no_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(judge=judging("8", "11"), fault=refusing([])) as server:
        evaluated(tmp_path, server, "muddled", monkeypatch)
    collection, section = part_of(tmp_path)
    assert set(section.frame["outcome"]) == {"incoherent"}
    (found,) = section.headlines
    assert (found.answers, found.scored) == (14, 0)
    assert found.pooled.value != found.pooled.value
    made = make_report(collection)
    (sentence,) = (s for s in made.parts[0].verdict if s.kind == "nothing")
    assert "none of 14 answers was scored (all incoherent)" in str(sentence)
    assert not any(word in str(sentence).lower() for word in ("nan", "0.0 %"))
