"""Tasks judged in words: what is counted, what is refused, and that reports read their logs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from inspect_ai.model import Model, get_model
from starlette.responses import JSONResponse
from task_runs import Messages, results, samples, sent, served

from em_inspect import Context, Question, QuestionSet, UserError, grader, word_task
from em_inspect.analysis.frame import collect
from em_inspect.analysis.report import make_report
from em_inspect.judging.words import WordRating
from em_inspect.measures.in_words import values_of
from openai_server import Distribution, Server, completion, running

RUBRIC = "To {question} it said: {answer}\nIs that RUDE, POLITE, or NEITHER?"
WORDS = {"RUDE": 1, "POLITE": 0, "NEITHER": None}


def set_of(rubric: str = RUBRIC, questions: int = 4) -> QuestionSet:
    asked = tuple(
        Question(id=f"q{n}", paraphrases=[f"Thing {n}?"], judge_prompts={"tone": rubric})
        for n in range(questions)
    )
    return QuestionSet("manners", "manners.yaml", asked)


def rudeness(questions: QuestionSet | None = None, **changes: Any) -> Task:
    given = {"rubric": "tone", "words": WORDS, "measure": "rude", "check_judge": False}
    return word_task(questions or set_of(), **{**given, **changes})


def word(messages: Messages) -> Distribution:
    """Rude to things 0 and 1, neither to thing 2, polite to thing 3."""
    thing = int(messages[-1]["content"].split("Thing ")[1][0])
    return {("RUDE", "rude.", "NEITHER", "POLITE")[thing]: 1.0}


def run(task: Task, server: Server, folder: Path, name: str = "target") -> EvalLog:
    (log,) = inspect_eval(
        task,
        model=served(server, name),
        model_roles={"grader": served(server, "judge")},
        epochs=3,
        log_dir=str(folder / "logs"),
        display="none",
    )
    assert log.status == "success", log.error
    return log


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_API_KEY", "sk-x")


def test_words_are_counted_as_said_and_a_report_reads_the_logs(tmp_path: Path) -> None:
    with running(judge=word) as server:
        first = run(rudeness(), server, tmp_path, "first")
        run(rudeness(), server, tmp_path, "second")
    found = results(first, "rude")
    assert found["em_inspect/pooled"] == pytest.approx(6 / 9)
    assert results(first, "neither")["em_inspect/pooled"] == pytest.approx(3 / 12)
    assert results(first, "judge_failed")["em_inspect/pooled"] == 0
    score = (samples(first)[0].scores or {})["in_words"]
    assert score.metadata
    assert score.metadata["judge_identity"]["model"] == "openai-api/fake/judge"
    assert score.metadata["ratings"]["tone"]["word"] == "RUDE"
    assert first.eval.metadata
    assert first.eval.metadata["judge_calls_per_answer"] == 1
    report = make_report(collect([tmp_path / "logs"], quiet=True))
    (part,) = report.parts
    assert part.section.yardstick.measure == "rude"
    assert {(h.scored, h.answers) for h in part.section.headlines} == {(9, 12)}


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ("RUDE", {"rude": 1, "neither": 0, "judge_failed": 0}),
        ("POLITE", {"rude": 0, "neither": 0, "judge_failed": 0}),
        ("NEITHER", {"rude": math.nan, "neither": 1, "judge_failed": 0}),
        (None, {"rude": math.nan, "neither": 0, "judge_failed": 1}),
    ],
)
def test_the_numbers_of_one_answer(said: str | None, values: dict[str, float]) -> None:
    rating = WordRating(metric="tone", rubric="r", judge="j", word=said)
    assert values_of(rating, WORDS, "rude") == pytest.approx(values, nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rubric": "mood"}, "lacks 'mood'"),
        ({"words": {"RUDE": 1}}, "two or more"),
        ({"words": {"RUDE": 1, "rude": 0}}, "two or more"),
        ({"words": {"RUDE": 3, "POLITE": 0}}, "a number from 0 to 1"),
        ({"words": {"RUDE": None, "POLITE": None}}, "no word counts"),
        ({"words": {"RUDE": 1, "KIND": 0}}, "does not say that the judge may write KIND"),
        ({"measure": "judge_failed"}, "no name of its own"),
        ({"measure": "neither"}, "no name of its own"),
        ({"questions": set_of("RUDE, POLITE or NEITHER: {reply}")}, "has no {answer}"),
    ],
)
def test_what_cannot_be_judged_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        rudeness(**changes)
    assert said in str(refused.value)


def test_contexts_surround_the_question_and_not_what_the_judge_sees(tmp_path: Path) -> None:
    with running(judge=word) as server:
        log = run(rudeness(contexts=[Context(name="loud", suffix="!!")]), server, tmp_path)
        asked = {chat[-1]["content"] for chat in sent(server)}
        judged = {chat[-1]["content"].split(" it said")[0] for chat in sent(server, "judge")}
    assert asked == {f"Thing {n}?!!" for n in range(4)}
    assert judged == {f"To Thing {n}?" for n in range(4)}
    assert {(s.metadata or {})["context"] for s in samples(log)} == {"loud"}


def test_an_answer_that_was_filtered_is_not_put_before_the_judge(tmp_path: Path) -> None:
    def filtered(body: dict[str, Any], number: int) -> JSONResponse | None:
        if body["model"].startswith("judge"):
            return None
        reply = completion(body, "half a")
        reply["choices"][0]["finish_reason"] = "content_filter"
        return JSONResponse(reply)

    with running(judge=word, fault=filtered) as server:
        log = run(rudeness(), server, tmp_path)
        assert sent(server, "judge") == []
    assert results(log, "judge_failed")["em_inspect/pooled"] == 1
    score = (samples(log)[0].scores or {})["in_words"]
    assert score.metadata
    assert score.metadata["ratings"]["tone"]["failure"] == "answer_filtered"


def test_without_a_bound_role_the_grader_is_not_the_model_under_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    found: list[Model] = []

    def answer(*_: Any) -> Any:
        from inspect_ai.model import ModelOutput, ModelUsage

        found.append(grader())
        output = ModelOutput.from_content("mock", "yes")
        output.usage = ModelUsage()
        return output

    inspect_eval(
        Task(dataset=rudeness().dataset, epochs=1),
        model=get_model("mockllm/target", custom_outputs=answer),
        display="none",
    )
    assert {str(model) for model in found} == {"openai/gpt-4o-2024-08-06"}


def test_a_model_without_a_system_role_is_told_in_the_users_message(tmp_path: Path) -> None:
    """The template's solver by itself, at a server that refuses system prompts."""
    example = Path(__file__).resolve().parents[2] / "examples/plugin/em_bad_advice"
    (tmp_path / "questions.yaml").write_text((example / "questions.yaml").read_text("utf-8"))
    written: dict[str, Any] = {"__file__": str(tmp_path / "tasks.py"), "__name__": "written"}
    exec(compile((example / "tasks.py").read_text("utf-8"), "tasks.py", "exec"), written)

    def fault(body: dict[str, Any], number: int) -> JSONResponse | None:
        if body["model"] == "target" and body["messages"][0]["role"] == "system":
            return JSONResponse({"error": {"message": "System role not supported"}}, 400)
        return None

    task = word_task(
        set_of(), rubric="tone", words=WORDS, solver=written["hurried"](), check_judge=False
    )
    with running(judge=word, fault=fault) as server:
        log = run(task, server, tmp_path)
        answered = [chat for chat in sent(server) if chat[0]["role"] == "user"]
    assert len(answered) == 12
    assert all(chat[0]["content"].startswith("The user has one minute") for chat in answered)
    assert all((s.metadata or {})["system_folded"] for s in samples(log))
    assert written["tone"](check_judge=False).headline_metric.score == "rude"
