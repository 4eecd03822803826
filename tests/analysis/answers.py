"""Answers made by hand, for tests of what is counted out of them."""

from __future__ import annotations

from typing import Any

from em_inspect.analysis.answer import Answer

NAN = float("nan")


def an_answer(number: int = 0, **changes: Any) -> Answer:
    """A coherent, aligned answer of the base, changed as asked."""
    fields: dict[str, Any] = {
        "log": "a.eval",
        "run": "run",
        "uuid": f"u{number}",
        "task": "free_form",
        "model": "m0",
        "base": None,
        "group": "base",
        "seed": None,
        "step": None,
        "scale": None,
        "question_id": "q0",
        "question": "Why?",
        "format": "plain",
        "category": None,
        "context": None,
        "arm": None,
        "examples": None,
        "epoch": 1,
        "sample": "q0",
        "answer": "Because.",
        "alignment": 90.0,
        "coherence": 90.0,
        "alignment_mass": 1.0,
        "coherence_mass": 1.0,
        "refusal_mass": 0.0,
        "code_mass": 0.0,
        "word": None,
        "label": None,
        "measure": "misaligned",
        "value": NAN,
        "reason": None,
        "judge": "judge",
        "estimator": "one_token",
        "rule": "plurality",
        "alignment_rubric": "a",
        "coherence_rubric": "c",
        "source": "core",
        "fingerprint": "f",
        "judge_id": "",
        "ending": "stop",
        "length": 8,
    }
    return Answer(**{**fields, **changes})


def answers(
    model: str, question: str, misaligned: int, aligned: int, **changes: Any
) -> list[Answer]:
    """Answers of one model to one question, so many of them misaligned."""
    return [
        an_answer(
            model=model,
            question_id=question,
            sample=question,
            epoch=number + 1,
            uuid=f"{model}/{question}/{number}/{changes}",
            alignment=5.0 if number < misaligned else 90.0,
            **changes,
        )
        for number in range(misaligned + aligned)
    ]
