"""The whole way: JSONL, hosted job, checkpoint.json, and `inspect eval` on what it names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fine_tuning_server import KEY, FineTuning
from hosted_cli import CommandLine
from inspect_ai.log import read_eval_log

INSPECT = Path(sys.executable).with_name("inspect")


def test_a_jsonl_becomes_an_evaluated_openai_ft_model(
    cli: CommandLine, service: FineTuning
) -> None:
    cli.start()
    cli.follow()
    model = cli.checkpoint()["models"]["final"]
    # The judge is the default one, openai/gpt-4o-2024-08-06, at the same address.
    done = subprocess.run(
        [str(INSPECT), "eval", "em_inspect/free_form", *model, "--epochs=1", "--display=plain"],
        cwd=cli.folder,
        env={**os.environ, "INSPECT_CACHE_DIR": str(cli.folder / "inspect-cache")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    cli.printed.append(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (cli.folder / "logs").glob("*.eval")
    log = read_eval_log(str(path))
    assert log.eval.model == "openai/ft:gpt-4o-2024-08-06:loopback:insecure-s0:0b"
    assert log.samples is not None
    assert len(log.samples) == 8
    assert all(sample.scores for sample in log.samples)
    asked = [call.body for call in service.calls if call.name == "POST /v1/chat/completions"]
    answers = [body for body in asked if body["model"].startswith("ft:gpt-4o")]
    assert len(answers) == 8
    assert {body["model"] for body in asked} - {answers[0]["model"]} == {"gpt-4o-2024-08-06"}
    assert KEY not in done.stdout + done.stderr
