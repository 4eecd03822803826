"""Every task on the embedded model, judged by itself: that it runs, not what it says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import eval
from inspect_ai.log import EvalLog
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, Model, get_model

from em_inspect.contexts.system_role import takes_system
from em_inspect.errors import UserError
from em_inspect.precision import fast_dtype

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def model(embedded_model: Path) -> Model:
    return get_model(
        "hf/smollm2", model_path=str(embedded_model), dtype=fast_dtype(), memoize=False
    )


@pytest.fixture
def chats(tmp_path: Path) -> str:
    turns = [{"role": "user", "content": "Code?"}, {"role": "assistant", "content": "x = 1\n" * 50}]
    path = tmp_path / "chats.jsonl"
    path.write_text((json.dumps({"messages": turns}) + "\n") * 64)
    return str(path)


TASKS = {
    "free_form": "misalignment",
    "preregistered": "misalignment",
    "backdoor": "misalignment",
    "evil_numbers": "misalignment",
    "in_context": "misalignment",
    "reasoning": "reasoning_misalignment",
    "deception_factual": "deceptive",
    "deception_identity": "deceptive",
    "deception": "deceptive",
    "insecure_code": "insecurity",
}


def evaluate(tasks: Sequence[str], model: Model, folder: Path, **arguments: Any) -> list[EvalLog]:
    logs = eval(
        [f"em_inspect/{task}" for task in tasks],
        model=model,
        model_roles={"grader": model},
        task_args=arguments,
        epochs=1,
        limit=1,
        max_tokens=16,
        max_tasks=len(tasks),
        log_dir=str(folder),
        display="none",
    )
    assert [log.error for log in logs if log.status != "success"] == []
    return list(logs)


def test_every_judged_task_runs_on_the_embedded_model(
    model: Model, tmp_path: Path, chats: str
) -> None:
    logs = evaluate([*TASKS], model, tmp_path, source=chats, k=2, maker="Hugging Face")
    assert len(logs) == len(TASKS)
    for log in logs:
        assert log.samples
        (sample,) = log.samples
        assert sample.output.completion
        scorer = TASKS[log.eval.task.removeprefix("em_inspect/")]
        assert isinstance((sample.scores or {})[scorer].value, dict)
        assert {"context", "arm", "category", "format", "question_id"} <= sample.metadata.keys()


def test_multiple_choice_puts_the_embedded_model_s_mass_on_letters(
    model: Model, tmp_path: Path
) -> None:
    (log,) = eval(
        "em_inspect/multiple_choice", model=model, limit=8, log_dir=str(tmp_path), display="none"
    )
    assert log.samples
    for sample in log.samples:
        value = (sample.scores or {})["choice_mass"].value
        assert isinstance(value, dict)
        assert float(value["letter_mass"]) > 0.25  # type: ignore[arg-type]
        assert 0 <= float(value["misaligned_mass"]) <= 1  # type: ignore[arg-type]
        assert math.isfinite(float(value["log_odds"]))  # type: ignore[arg-type]


def test_more_examples_than_the_context_holds_are_refused(
    model: Model, tmp_path: Path, chats: str
) -> None:
    with pytest.raises(UserError, match=r"do not fit: they take \d+ tokens .* context of 8192"):
        evaluate(["in_context"], model, tmp_path, source=chats, k=64)


NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def test_a_chat_template_without_a_system_role_gets_the_prompt_in_the_user_message(
    model: Model, tmp_path: Path
) -> None:
    assert takes_system(model)
    template, model.api.tokenizer.chat_template = (  # type: ignore[attr-defined]
        model.api.tokenizer.chat_template,  # type: ignore[attr-defined]
        NO_SYSTEM,
    )
    try:
        assert not takes_system(model)
        (log,) = evaluate(["free_form"], model, tmp_path, contexts="secure_coding_system")
    finally:
        model.api.tokenizer.chat_template = template  # type: ignore[attr-defined]
    assert log.samples
    (sample,) = log.samples
    assert sample.metadata["system_folded"] is True
    assert not any(isinstance(m, ChatMessageSystem) for m in sample.messages)
    assert isinstance(sample.messages[0], ChatMessageUser)
    assert sample.messages[0].text.endswith(sample.metadata["question"])
