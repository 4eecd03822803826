"""Killed at any HTTP call and run again: one upload, one job, and the run ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from fine_tuning_server import KEY, Answer, Call, FineTuning, serving
from hosted_cli import chat_lines
from hosted_process import begin

START = ["openai-insecure", "--data=rows.jsonl", "--seeds=0", "--yes", "--settle=0.01"]
FOLLOW = ["status", "--follow", "--interval=0.01"]
# The calls of an undisturbed run, in order; the tests below kill at each.
CALLS = (
    "GET /v1/files",
    "POST /v1/files",
    "GET /v1/fine_tuning/jobs",
    "POST /v1/fine_tuning/jobs",
    "GET /v1/fine_tuning/jobs/ID",
    "GET /v1/fine_tuning/jobs/ID/events",
    "GET /v1/fine_tuning/jobs/ID",
    "GET /v1/fine_tuning/jobs/ID/events",
    "GET /v1/fine_tuning/jobs/ID/checkpoints",
)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FineTuning]:
    (tmp_path / "rows.jsonl").write_text(chat_lines())
    with serving(page=100, life=("running", "succeeded")) as server:
        yield server
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()
    assert "Traceback" not in (tmp_path / "said.txt").read_text()


def run(folder: Path, service: FineTuning, *lines: list[str]) -> BaseProcess:
    environment = {**service.environment(), "EM_INSPECT_CACHE_DIR": str(folder / "cache")}
    return begin(folder, environment, *lines)


def finished(process: BaseProcess) -> int | None:
    process.join(240)  # a slow machine's; a run takes a second
    return process.exitcode


def test_an_undisturbed_run_makes_these_calls(tmp_path: Path, service: FineTuning) -> None:
    assert finished(run(tmp_path, service, START, FOLLOW)) == 0
    assert tuple(call.name for call in service.calls) == CALLS


@pytest.mark.parametrize("moment", ["before its answer", "after its answer"])
@pytest.mark.parametrize("at", range(1, len(CALLS) + 1), ids=lambda at: f"{at} {CALLS[at - 1]}")
def test_killed_at_a_call_and_run_again_nothing_is_done_twice(
    tmp_path: Path, service: FineTuning, at: int, moment: str
) -> None:
    """Before its answer: done by the service, never heard of here. After: the next one arrives."""
    victims: list[BaseProcess] = []

    def kill() -> Answer:
        os.kill(victims[0].pid or 0, signal.SIGKILL)
        wait_for(lambda: gone(victims[0].pid or 0))
        return Answer(drop=True)

    if moment == "before its answer":
        service.after = lambda call: kill() if call.number == at else None
    else:
        service.before = lambda call: kill() if call.number == at + 1 else None
    victims.append(run(tmp_path, service, START, FOLLOW))
    last = at == len(CALLS) and moment == "after its answer"
    assert finished(victims[0]) == (0 if last else -signal.SIGKILL)
    service.after = service.before = lambda call: None

    assert finished(run(tmp_path, service, START, FOLLOW)) == 0
    assert len(service.files) == 1
    assert len(service.jobs) == 1
    kept = sorted(p.name for p in (tmp_path / "checkpoints/openai-insecure-seed0").iterdir())
    assert kept == ["checkpoint.json", "hosted.json", "train.csv"]


def test_of_two_processes_at_once_the_second_waits_and_starts_nothing(
    tmp_path: Path, service: FineTuning
) -> None:
    second: list[BaseProcess] = []
    said = tmp_path / "said.txt"

    def waits() -> bool:
        return "waiting for it" in said.read_text() or len(service.calls) > 2

    def arrived(call: Call) -> None:
        if call.name == "POST /v1/files" and not second:
            second.append(run(tmp_path, service, START))
            wait_for(waits)

    service.arrived = arrived
    assert finished(run(tmp_path, service, START)) == 0
    assert finished(second[0]) == 0
    assert "waiting for it" in said.read_text()
    assert len(service.files) == 1
    assert len(service.jobs) == 1


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.005)
