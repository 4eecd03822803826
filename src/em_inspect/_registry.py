"""What Inspect finds of this package: tasks, solvers, scorers and metrics, and nothing heavy."""

from em_inspect.calibration.task import calibration, give_labelled_answer, logged_ratings
from em_inspect.contexts import ask
from em_inspect.judging.scorer import misalignment
from em_inspect.measures.arms import (
    paired_difference,
    paired_difference_stderr,
    question_difference,
    share_by,
)
from em_inspect.measures.choice_mass import choice_mass
from em_inspect.measures.honesty import (
    deception_by_question,
    deceptive,
    factual_deception,
    factual_deception_stderr,
    identity_deception,
    identity_deception_stderr,
    overall_deception,
    overall_deception_stderr,
)
from em_inspect.measures.in_words import in_words
from em_inspect.measures.insecurity import insecurity, unseen, unseen_stderr
from em_inspect.measures.thinking import reasoning_misalignment, think
from em_inspect.metrics import (
    by_question,
    by_question_stderr,
    pooled,
    pooled_by,
    pooled_stderr,
)
from em_inspect.tasks.backdoor import backdoor
from em_inspect.tasks.deception import deception, deception_factual, deception_identity
from em_inspect.tasks.evil_numbers import evil_numbers
from em_inspect.tasks.free_form import free_form
from em_inspect.tasks.in_context import in_context
from em_inspect.tasks.insecure_code import insecure_code
from em_inspect.tasks.multiple_choice import multiple_choice
from em_inspect.tasks.preregistered import preregistered
from em_inspect.tasks.reasoning import reasoning

__all__ = [
    "ask",
    "backdoor",
    "by_question",
    "by_question_stderr",
    "calibration",
    "choice_mass",
    "deception",
    "deception_by_question",
    "deception_factual",
    "deception_identity",
    "deceptive",
    "evil_numbers",
    "factual_deception",
    "factual_deception_stderr",
    "free_form",
    "give_labelled_answer",
    "identity_deception",
    "identity_deception_stderr",
    "in_context",
    "in_words",
    "insecure_code",
    "insecurity",
    "logged_ratings",
    "misalignment",
    "multiple_choice",
    "overall_deception",
    "overall_deception_stderr",
    "paired_difference",
    "paired_difference_stderr",
    "pooled",
    "pooled_by",
    "pooled_stderr",
    "preregistered",
    "question_difference",
    "reasoning",
    "reasoning_misalignment",
    "share_by",
    "think",
    "unseen",
    "unseen_stderr",
]
