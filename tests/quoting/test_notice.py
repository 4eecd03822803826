"""The notice: what a run will ask for, said when it starts, and to nobody else's runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from openai_server import running

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


def test_a_run_says_its_answers_judge_calls_and_tokens_and_other_runs_are_left_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "other.py").write_text(OTHER)
    with running(judge=lambda messages: {"70": 0.9}) as server:
        environment = {**os.environ, **server.environment(), "INSPECT_CACHE_DIR": str(tmp_path)}

        def said(*arguments: str) -> str:
            inspect = str(Path(sys.executable).with_name("inspect"))
            done = subprocess.run(
                [inspect, "eval", *arguments, "--display=plain"],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        ours = said(
            "em_inspect/free_form",
            "--model=openai-api/fake/target",
            "--model-role=grader=openai-api/fake/judge",
            "--limit=3",
            "--epochs=2",
        )
        assert "em_inspect/free_form: 6 answers, at most 12 judge calls; tokens in and out" in ours
        assert len([r for r in server.requests if r["model"] == "target"]) == 6
        others = said("other.py", "--model=none/none")
    assert "judge calls" not in others
    assert "hooks" not in ours + others
