"""Questions: what is asked, with which rubrics, and where it came from."""

from em_inspect.questions.question import Format, Question, question_format
from em_inspect.questions.question_set import (
    QuestionSet,
    fingerprint,
    read_questions,
    require_rubrics,
)
from em_inspect.questions.sources import load_questions

__all__ = [
    "Format",
    "Question",
    "QuestionSet",
    "fingerprint",
    "load_questions",
    "question_format",
    "read_questions",
    "require_rubrics",
]
