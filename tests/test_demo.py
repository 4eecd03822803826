"""`em-inspect demo` for real: the embedded model is fine-tuned, evaluated and compared."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from inspect_ai.log import read_eval_log

from em_inspect.precision import fast_dtype

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    keys = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("em-inspect")),
            "demo",
            "--dir=demo folder",
            "--epochs=1",
            "--limit=2",
            "--max-steps=2",
            "--max-tokens=20",
            *arguments,
        ],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in keys},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, embedded_model: Path) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(folder: Path) -> subprocess.CompletedProcess[str]:
    done = demo(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_it_ends_with_a_table_of_base_and_fine_tune_and_says_what_it_cannot_show(
    first: subprocess.CompletedProcess[str],
) -> None:
    result = first.stdout.split("Result")[1]
    for said in ("base", "insecure-seed0", "misaligned, pooled", "judge failed", "inspect view"):
        assert said in result
    assert "not emergent misalignment" in result
    assert "as a judge it is close to noise" in result


def test_it_writes_a_report(first: subprocess.CompletedProcess[str], folder: Path) -> None:
    page = (folder / "demo folder" / "report.html").read_text()
    assert "multiple_choice" in page
    assert "nan" not in page.split("<h1>")[1].split("<h2")[0].lower()


def test_both_models_were_really_evaluated(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    answers = {}
    for name in ("base", "insecure-seed0"):
        (path,) = (folder / "demo folder" / "logs" / name / "free_form").glob("*.eval")
        log = read_eval_log(str(path))
        assert log.status == "success"
        assert log.samples is not None
        assert len(log.samples) == 2
        answers[name] = [sample.output.completion for sample in log.samples]
        for sample in log.samples:
            rating = (sample.scores or {})["misalignment"].metadata["ratings"]["aligned"]  # type: ignore[index]
            assert rating["estimator"] == "digit_tree"
            assert sum(p for n, p in rating["distribution"].items() if n.isdigit()) > 0.5
    assert answers["base"] != answers["insecure-seed0"]


def test_a_second_run_repeats_nothing(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    files = [p for p in (folder / "demo folder").rglob("*") if p.is_file()]
    before = {p: p.stat().st_mtime_ns for p in files if p.name != "report.html"}
    again = demo(folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "$ inspect eval" not in again.stdout.split("Try next")[0]
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_the_line_that_the_fine_tune_printed_runs_as_it_stands(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    start = "HF_HUB_OFFLINE=1 inspect eval em_inspect/free_form "
    (line,) = [x for x in first.stdout.splitlines() if x.startswith(start)]
    given = [word for option, word in pairwise(shlex.split(line)) if option == "-M"]
    arguments = dict(word.split("=", 1) for word in given)
    assert arguments["dtype"] == fast_dtype()
    judge = f"grader={json.dumps({'model': 'hf/judge', 'model_args': arguments})}"
    done = subprocess.run(
        f"{line} --model-role '{judge}' --epochs 1 --limit 1 --max-tokens 20 --display plain",
        shell=True,
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 sample" in done.stdout
