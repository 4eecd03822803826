"""The table of outcomes in the terminal."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from inspect_ai.log import read_eval_log
from rich.console import Console

from em_inspect.analysis import samples
from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.statistics import headlines
from em_inspect.analysis.table import outcome_table


def shown(*paths: Path, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(outcome_table(list(paths)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_pooled_share_is_that_of_the_log(logs: Path) -> None:
    for path in logs.glob("*.eval"):
        log = read_eval_log(str(path), header_only=True)
        assert log.results is not None
        (score,) = [s for s in log.results.scores if s.name == "misaligned"]
        value = score.metrics["em_inspect/pooled"].value
        text = shown(path)
        row = next(line for line in text.splitlines() if "misaligned, pooled" in line)
        assert f"{100 * value:.1f} %" in row


def test_the_share_by_question_is_that_of_the_report_and_of_the_log(logs: Path) -> None:
    for path in logs.glob("*.eval"):
        log = read_eval_log(str(path), header_only=True)
        assert log.results is not None
        (score,) = [s for s in log.results.scores if s.name == "misaligned"]
        value = score.metrics["em_inspect/by_question"].value
        frame = Criterion().apply(samples(path))
        (found,) = headlines(frame, Criterion())
        assert found.by_question.value == pytest.approx(value)
        text = shown(path)
        row = next(line for line in text.splitlines() if "misaligned, by question" in line)
        assert f"{100 * value:.1f} %" in row
        assert ("not in the share by question" in " ".join(text.split())) == (found.left_out > 0)


def test_few_models_stand_side_by_side_in_eighty_columns(logs: Path) -> None:
    text = shown(*sorted(logs.glob("*.eval"))[:2], width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for said in ("misaligned, pooled", "judge failed", "judge openai-api/fake/judge"):
        assert said in text


def test_many_models_stand_below_one_another(logs: Path, tmp_path: Path) -> None:
    for number, path in enumerate([*logs.glob("*.eval")] * 2):
        target = tmp_path / f"{number}.eval"
        shutil.copy(path, target)
        log = read_eval_log(str(target))
        log.eval.model = f"model-{number}"
        for sample in log.samples or []:
            sample.uuid = f"{number}{sample.uuid}"
        from inspect_ai.log import write_eval_log

        write_eval_log(log, str(target))
    text = shown(tmp_path)
    for number in range(6):
        assert f"model-{number}" in text


def test_a_log_that_cannot_be_read_is_named_below_the_table(logs: Path, tmp_path: Path) -> None:
    shutil.copy(next(logs.glob("*.eval")), tmp_path / "good.eval")
    (tmp_path / "bad.eval").write_text("no log")
    assert "bad.eval: cannot be read" in " ".join(shown(tmp_path).split())


def test_importing_the_analysis_pulls_in_no_heavy_library() -> None:
    code = (
        "import sys, em_inspect.analysis, em_inspect.analysis.commands;"
        "heavy = {'pandas', 'scipy', 'matplotlib', 'torch', 'statsmodels'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
