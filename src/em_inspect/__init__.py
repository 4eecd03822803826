"""Measure emergent misalignment with Inspect AI; the names below are for packages of your own."""
# inspect-evals-lint: ignore-file[IEFS003] -- the task `calibration` has the name of its package

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from em_inspect.building_block import free_form_task, question_samples, sampling
    from em_inspect.contexts import Context, ask, compose, load_contexts
    from em_inspect.errors import UserError
    from em_inspect.judging import Rubric, misalignment
    from em_inspect.judging.judge import grader
    from em_inspect.judging.words import ask_word
    from em_inspect.questions import Question, QuestionSet, load_questions
    from em_inspect.tasks.backdoor import backdoor
    from em_inspect.tasks.deception import deception, deception_factual, deception_identity
    from em_inspect.tasks.evil_numbers import evil_numbers
    from em_inspect.tasks.free_form import free_form
    from em_inspect.tasks.in_context import in_context
    from em_inspect.tasks.insecure_code import insecure_code
    from em_inspect.tasks.multiple_choice import multiple_choice
    from em_inspect.tasks.preregistered import preregistered
    from em_inspect.tasks.reasoning import reasoning
    from em_inspect.word_base import word_task

__version__ = "0.1.0"

# Loaded on first use, so that command lines start without Inspect.
_PUBLIC = {
    "Context": "em_inspect.contexts",
    "Question": "em_inspect.questions",
    "QuestionSet": "em_inspect.questions",
    "Rubric": "em_inspect.judging",
    "UserError": "em_inspect.errors",
    "backdoor": "em_inspect.tasks.backdoor",
    "deception": "em_inspect.tasks.deception",
    "deception_factual": "em_inspect.tasks.deception",
    "deception_identity": "em_inspect.tasks.deception",
    "evil_numbers": "em_inspect.tasks.evil_numbers",
    "free_form": "em_inspect.tasks.free_form",
    "in_context": "em_inspect.tasks.in_context",
    "insecure_code": "em_inspect.tasks.insecure_code",
    "multiple_choice": "em_inspect.tasks.multiple_choice",
    "preregistered": "em_inspect.tasks.preregistered",
    "reasoning": "em_inspect.tasks.reasoning",
    "ask": "em_inspect.contexts",
    "ask_word": "em_inspect.judging.words",
    "compose": "em_inspect.contexts",
    "free_form_task": "em_inspect.building_block",
    "grader": "em_inspect.judging.judge",
    "load_contexts": "em_inspect.contexts",
    "load_questions": "em_inspect.questions",
    "misalignment": "em_inspect.judging",
    "question_samples": "em_inspect.building_block",
    "sampling": "em_inspect.building_block",
    "word_task": "em_inspect.word_base",
}

__all__ = [
    "Context",
    "Question",
    "QuestionSet",
    "Rubric",
    "UserError",
    "__version__",
    "ask",
    "ask_word",
    "backdoor",
    "compose",
    "deception",
    "deception_factual",
    "deception_identity",
    "evil_numbers",
    "free_form",
    "free_form_task",
    "grader",
    "in_context",
    "insecure_code",
    "load_contexts",
    "load_questions",
    "misalignment",
    "multiple_choice",
    "preregistered",
    "question_samples",
    "reasoning",
    "sampling",
    "word_task",
]


def __getattr__(name: str) -> Any:

    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
