"""The notice of a run's size is nobody else's: a task that is not ours starts without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from em_inspect import free_form
from em_inspect.quoting.notice import quoted

OTHER = """\
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput
from inspect_ai.solver import solver


@solver
def silent():
    async def solve(state, generate):
        state.output = ModelOutput.from_content("none", "x")
        return state

    return solve


@task
def other():
    return Task(dataset=[Sample(input="x")], solver=silent())
"""


def test_other_runs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("inspect")),
            *("eval", "other.py", "--model=none/none", "--display=plain"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "judge calls" not in done.stdout + done.stderr
    assert "hooks" not in done.stdout + done.stderr


@pytest.mark.parametrize(("judge", "calls"), [("openai/gpt-4o", 2), ("anthropic/claude", 10)])
def test_an_estimator_counts_though_the_judge_was_not_tested(judge: str, calls: int) -> None:
    task = free_form(estimator="sampled", check_judge=False)
    row = task.dataset[0]
    spec: Any = SimpleNamespace(
        dataset=SimpleNamespace(name=task.dataset.name, sample_ids=[row.id]),
        config=SimpleNamespace(epochs=1),
        model="mockllm/model",
        model_roles={"grader": SimpleNamespace(model=judge)},
    )
    found = quoted(spec)
    assert found is not None
    assert found.judge.calls == calls
