"""Judging: rubrics, the estimators of a judge's numbers, and the scorer that uses both."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from em_inspect.judging.expectation import Reading, Rule, read
    from em_inspect.judging.judge import (
        DEFAULT_JUDGE,
        GRADER_ROLE,
        Judge,
        check_judge,
        prepare_judge,
    )
    from em_inspect.judging.rating import Estimator, Failure, Rating
    from em_inspect.judging.rubric import Rubric
    from em_inspect.judging.scorer import misalignment

# Name: module that it lives in. Imported when asked for, so that the pure modules in here can be
# used by those that the scorer itself builds on (`em_inspect.outcomes`).
_WHERE = {
    "DEFAULT_JUDGE": "judge",
    "GRADER_ROLE": "judge",
    "Estimator": "rating",
    "Failure": "rating",
    "Judge": "judge",
    "Rating": "rating",
    "Reading": "expectation",
    "Rubric": "rubric",
    "Rule": "expectation",
    "check_judge": "judge",
    "misalignment": "scorer",
    "prepare_judge": "judge",
    "read": "expectation",
}

__all__ = [
    "DEFAULT_JUDGE",
    "GRADER_ROLE",
    "Estimator",
    "Failure",
    "Judge",
    "Rating",
    "Reading",
    "Rubric",
    "Rule",
    "check_judge",
    "misalignment",
    "prepare_judge",
    "read",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
