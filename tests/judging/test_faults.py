"""A judge that fails in every way: each rating counted once under its own reason, then retried."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import inspect_ai
import pytest
from click.testing import CliRunner
from inspect_ai import Epochs, Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import GenerateConfig, ModelOutput, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver
from starlette.responses import JSONResponse, Response

from em_inspect.judging.commands import rescore
from em_inspect.judging.judge import PROBE
from em_inspect.judging.rating import Rating
from em_inspect.judging.scorer import misalignment
from em_inspect.outcomes import OUTCOMES
from openai_server import Distribution, Server, completion, running

ANSWERS = 1_000


class Slow(Response):
    """A response that comes too late."""

    async def __call__(self, *arguments: Any) -> None:
        await asyncio.sleep(12)
        await super().__call__(*arguments)


def status(code: int) -> Response:
    return JSONResponse({"error": {"message": f"status {code}"}}, status_code=code)


def said(content: str, finish: str = "stop", logprobs: Any = None) -> Response:
    body = completion({"model": "judge"}, content)
    body["choices"][0] |= {"finish_reason": finish, "logprobs": logprobs}
    return JSONResponse(body)


# What goes wrong, and what a rating must then be: a number, a word, or a reason for neither.
REPLIES: dict[str, tuple[Distribution | Response, float | str]] = {
    "number": ({"80": 0.5, "90": 0.4}, 84.44444444444444),
    "few": ({"85": 0.9}, 85.0),
    "space": ({" 85": 0.95}, 85.0),
    "full-width": ({"８５": 0.95}, 85.0),
    "word": ({"REF": 0.95, "0": 0.05}, "REFUSAL"),
    "prose": ({"I": 0.6, "The": 0.3}, "no_number"),
    "out of": ({"85/100": 0.95}, "no_number"),
    "full stop": ({"85.": 0.95}, "no_number"),
    "minus": ({"−5": 0.5, "-5": 0.45}, "no_number"),
    "too high": ({"101": 0.99}, "no_number"),
    "too little": ({"0": 0.2, "I": 0.75}, "no_number"),
    "nothing": (said(""), "empty"),
    "no logprobs": (said("85"), "no_probabilities"),
    "empty list": (said("85", logprobs={"content": []}), "no_probabilities"),
    "filter": (said("", "content_filter"), "filtered"),
    "429": (status(429), "rate_limited"),
    "500": (status(500), "server_error"),
    "400": (status(400), "rejected"),
    "late": (Slow(), "timed_out"),
    "cut off": (Response("{", media_type="application/json"), "error"),
}


def kind_of(prompt: str) -> str:
    """Which fault a prompt meets, by its text alone: half of them none."""
    if prompt == PROBE:
        return "number"
    dice = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    return "number" if dice % 2 else list(REPLIES)[dice // 2 % len(REPLIES)]


@solver
def numbered() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        text = f"answer {state.sample_id}"
        state.output = ModelOutput.from_content("none", text)
        return state

    return solve


def rating_task(answers: int) -> Task:
    prompts = {"aligned": "A {question} {answer}", "coherent": "C {question} {answer}"}
    metadata = {"question_id": "q", "question": "?", "judge_prompts": prompts}
    samples = [Sample(id=n, input="?", metadata=metadata) for n in range(1, answers + 1)]
    return Task(dataset=samples, solver=numbered(), scorer=misalignment(), epochs=Epochs(1, []))


def judged(server: Server, folder: Path, answers: int, **config: Any) -> EvalLog:
    settings = {"max_retries": 0, "attempt_timeout": 8, "max_connections": 20, **config}
    judge = get_model(
        "openai-api/fake/judge",
        config=GenerateConfig(**settings),
        base_url=server.url,
        max_retries=0,
        memoize=False,
    )
    (log,) = inspect_ai.eval(
        rating_task(answers),
        model="none/none",
        model_roles={"grader": judge},
        log_dir=str(folder),
        display="none",
        score_display=False,
        log_realtime=False,
        max_samples=60,
    )
    assert log.status == "success", log.error
    return log


def ratings(log: EvalLog) -> Iterator[tuple[str, Rating]]:
    """Every rating with the kind of reply that its prompt met."""
    for sample in log.samples or []:
        metadata = (sample.scores or {})["misalignment"].metadata or {}
        for metric, stored in metadata["ratings"].items():
            letter = {"aligned": "A", "coherent": "C"}[metric]
            yield kind_of(f"{letter} ? answer {sample.id}"), Rating.model_validate(stored)


def result(rating: Rating) -> float | str | None:
    reading = rating.read()
    return rating.reason() or reading.word or reading.score


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_API_KEY", "sk-loopback-only")


@pytest.mark.slow
def test_every_fault_is_counted_once_under_its_reason_and_a_retry_rates_what_failed(
    tmp_path: Path,
) -> None:
    faulty = True

    def fault(body: dict[str, Any], number: int) -> Response | None:
        reply = REPLIES[kind_of(body["messages"][-1]["content"])][0]
        return reply if faulty and isinstance(reply, Response) else None

    def judge(messages: list[dict[str, Any]]) -> Distribution:
        reply = REPLIES[kind_of(messages[-1]["content"])][0]
        return reply if faulty and isinstance(reply, dict) else {"70": 0.9}

    with running(judge=judge, fault=fault) as server:
        log = judged(server, tmp_path, ANSWERS)
        first = list(ratings(log))
        assert len(first) == 2 * ANSWERS
        assert {kind for kind, _ in first} == set(REPLIES)
        for kind, rating in first:
            expected = REPLIES[kind][1]
            if expected == "REFUSAL" and rating.metric == "coherent":
                expected = "no_number"  # its rubric offers no words
            if isinstance(expected, float):
                expected = pytest.approx(expected, abs=1e-9)
            assert result(rating) == expected, (kind, rating)
        values = [(s.scores or {})["misalignment"].value for s in log.samples or []]
        counted: Counter[str] = Counter()
        for value in values:
            assert isinstance(value, dict)
            flags = [k for k in ("refusal", "code", "judge_failed") if value[k] == 1]
            scored = [] if math.isnan(float(str(value["misaligned"]))) else ["scored"]
            incoherent = ["incoherent"] if value["coherent"] == 0 and not flags else []
            assert len(flags + scored + incoherent) == 1
            counted[(flags + scored + incoherent)[0]] += 1
        assert sum(counted.values()) == ANSWERS

        faulty = False
        asked = len(server.requests)
        done = CliRunner().invoke(rescore, ["--retry", log.location])
        assert done.exit_code == 0, done.output
        prompts = Counter(r["messages"][-1]["content"] for r in server.requests[asked:])
        failed = [rating for _, rating in first if rating.reason() is not None]
        prompts.pop(PROBE, None)
        assert len(prompts) == sum(prompts.values()) == len(failed)

    target = Path(log.location).with_name(Path(log.location).stem + "-rescored.eval")
    after = read_eval_log(str(target))
    assert all(rating.reason() is None for _, rating in ratings(after))
    for (kind, old), (_, new) in zip(first, ratings(after), strict=True):
        assert new == old if old.reason() is None else result(new) == 70, kind
    outcomes = Counter((s.scores or {})["misalignment"].metadata["outcome"] for s in after.samples)  # type: ignore[index,union-attr]
    assert sum(outcomes.values()) == ANSWERS
    assert outcomes["judge_failed"] == 0
    assert set(outcomes) <= set(OUTCOMES)
    assert (after.samples or [])[0].events, "the original events are still there"


def test_a_judge_that_vanishes_in_mid_run_does_not_hang_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from em_inspect.judging import patience

    # The real waits are ten minutes; here one second, so that what is tested is their number.
    monkeypatch.setattr(patience, "WAIT", GenerateConfig(max_retries=7, timeout=4))
    with ExitStack() as stack:
        server = stack.enter_context(running(judge=lambda messages: {"70": 0.9}))

        def fault(body: dict[str, Any], number: int) -> Response | None:
            return status(503) if number > 60 else None

        server.fault = fault
        started = time.monotonic()
        log = judged(server, tmp_path, 400, max_retries=None, max_connections=10)
        took = time.monotonic() - started
    results = Counter(result(rating) for _, rating in ratings(log))
    assert results == {70.0: 59, "server_error": 741}
    # Without an end to its patience: 741 / 10 waits of 4 seconds and more, 278 seconds measured.
    assert took < 40


def test_scoring_a_log_again_with_inspect_asks_only_for_what_failed(tmp_path: Path) -> None:
    faulty = True

    def fault(body: dict[str, Any], number: int) -> Response | None:
        bad = "answer 3" in body["messages"][-1]["content"]
        return said("85") if faulty and bad else None

    with running(judge=lambda messages: {"70": 0.9}, fault=fault) as server:
        log = judged(server, tmp_path, 10)
        faulty = False
        asked = len(server.requests)
        target = tmp_path / "again.eval"
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("inspect")),
                "score",
                log.location,
                "--scorer=em_inspect/misalignment",
                "--stream=5",
                "--action=append",
                f"--output-file={target}",
            ],
            env=os.environ | server.environment(),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        again = [r["messages"][-1]["content"] for r in server.requests[asked:]]
    assert sum("answer 3" in text for text in again) == 2
    assert len(again) == 3  # and one question to the judge itself
    scores = [sample.scores or {} for sample in read_eval_log(str(target)).samples or []]
    assert all({"misalignment", "misalignment1"} == set(both) for both in scores)
    assert all(
        both["misalignment1"].value["judge_failed"] == 0  # type: ignore[call-overload,index]
        for both in scores
    )


def test_another_judge_rates_a_log_into_a_file_of_its_own(tmp_path: Path) -> None:
    with running(judge=lambda messages: {"70": 0.9}) as server:
        log = judged(server, tmp_path, 6)
        before = Path(log.location).read_bytes()
        server.judge = lambda messages: {"20": 0.9}
        target = tmp_path / "other.eval"
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("inspect")),
                "score",
                log.location,
                "--scorer=em_inspect/misalignment",
                "--model-role=grader=openai-api/fake/judge-two",
                "--stream=3",
                "--action=overwrite",
                f"--output-file={target}",
            ],
            env=os.environ | server.environment(),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert Path(log.location).read_bytes() == before
    for sample in read_eval_log(str(target)).samples or []:
        (score,) = (sample.scores or {}).values()
        assert isinstance(score.value, dict)
        assert score.value["alignment"] == 20
        assert (score.metadata or {})["judge"] == "openai-api/fake/judge-two"
