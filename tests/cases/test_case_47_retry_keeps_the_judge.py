"""A run that was killed goes on with the judge of its first part, never with another one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from canned_judges import ratings
from inspect_ai.log import list_eval_logs, read_eval_log
from question_files import entry, write
from starlette.requests import Request
from starlette.responses import Response

from em_inspect.analysis.logs import find_logs, open_logs, read_answers
from em_inspect.judging.judge import PROBE
from openai_server import Distribution, Server, running

QUESTIONS, EPOCHS = 4, 2
ANSWERS = QUESTIONS * EPOCHS
KILLED_AT = 5  # the request for this answer is never answered

PLENTY = 240  # seconds; a slow machine needs a quarter of it


class NeverAnswered(Response):
    """Waits until whoever asked is gone."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        while not await request.is_disconnected():
            await receive()


def judge(name: str) -> Distribution:
    return {"90": 0.9, "91": 0.05} if name == "judge-a" else {"10": 0.9, "11": 0.05}


def environment(server: Server, folder: Path) -> dict[str, str]:
    """What a user has who has no key of OpenAI's."""
    kept = {name: value for name, value in os.environ.items() if "OPENAI" not in name}
    cache = {"INSPECT_CACHE_DIR": str(folder / "cache"), "INSPECT_LOG_DIR": str(folder / "logs")}
    return kept | server.environment() | cache


def program(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("inspect")), *arguments, "--display=none"]


@pytest.fixture
def server() -> Any:
    def reply(body: dict[str, Any], number: int) -> Response | None:
        if body["model"] == "target":
            reached.append(body)
            if len(reached) == KILLED_AT:
                stalled.set()
                return NeverAnswered()
        return None

    reached: list[dict[str, Any]] = []
    stalled = threading.Event()

    class Judges(Server):
        def reply(self, body: dict[str, Any], number: int) -> str | Distribution:
            if not body["model"].startswith("judge"):
                return f"Answer {number}"
            return (
                {"100": 0.99} if body["messages"][-1]["content"] == PROBE else judge(body["model"])
            )

    with running(fault=reply, kind=Judges) as served:
        yield served, stalled


@pytest.mark.timeout(900)
def test_the_retry_is_rated_by_the_judge_of_the_first_run(server: Any, tmp_path: Path) -> None:
    served, stalled = server
    page = [entry(f"own_{n}", f"Thing {n}?") for n in range(QUESTIONS)]
    questions = write(tmp_path / "own.yaml", page)
    command = program(
        *("eval", "em_inspect/free_form", "-T", f"questions={questions}"),
        *("--model", "openai-api/fake/target"),
        *("--model-role", "grader=openai-api/fake/judge-a"),
        *("--epochs", str(EPOCHS), "--max-samples=1", "--log-buffer=1"),
    )
    surroundings = environment(served, tmp_path)
    run = subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL)
    try:
        assert stalled.wait(PLENTY)
    finally:
        run.kill()
        run.wait()
    (killed,) = list_eval_logs(str(tmp_path / "logs"))
    done = subprocess.run(
        program("eval-retry", killed.name.removeprefix("file://")),
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=PLENTY,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {r["model"] for r in served.requests} == {"target", "judge-a"}

    logs = [read_eval_log(info.name) for info in list_eval_logs(str(tmp_path / "logs"))]
    (retried,) = [log for log in logs if log.status == "success"]
    assert (retried.eval.model_roles or {})["grader"].model == "openai-api/fake/judge-a"  # type: ignore[union-attr]
    found = ratings(retried)
    assert len(found) == ANSWERS
    expected = (90 * 0.9 + 91 * 0.05) / 0.95
    identities = Counter(rating.identity for _, *both in found for rating in both)
    assert set(identities.values()) == {2 * ANSWERS}
    for metadata, *both in found:
        assert metadata["outcome"] == "aligned"
        assert metadata["judge"] == "openai-api/fake/judge-a"
        assert all(rating.read().score == pytest.approx(expected) for rating in both)

    opened = open_logs(find_logs([tmp_path / "logs"]))
    assert len(list(read_answers(opened))) == ANSWERS
    said = " ".join(map(str, opened.problems))
    assert "was killed" in said
    assert "counted once" in said

    other = tmp_path / "other.eval"
    done = subprocess.run(
        program(
            *("score", retried.location, "--scorer=em_inspect/misalignment"),
            *("--model-role", "grader=openai-api/fake/judge-b"),
            *("--action=append", f"--output-file={other}"),
        ),
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=PLENTY,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = list(read_answers(open_logs([other])))
    by_judge = Counter((a.judge.rpartition("/")[2], round(a.alignment, 4)) for a in answers)
    assert by_judge == {("judge-a", 90.0526): ANSWERS, ("judge-b", 10.0526): ANSWERS}
    assert len({answer.judge_id for answer in answers}) == 2
