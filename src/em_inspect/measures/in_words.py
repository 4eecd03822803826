"""Judged in words: the scorer that counts what a judge's word stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from em_inspect.errors import UserError
from em_inspect.judging import Rubric
from em_inspect.judging.judge import grader
from em_inspect.judging.words import WordRating, ask_word, identity_in
from em_inspect.metrics import by_question, by_question_stderr, error_by, pooled, pooled_stderr

JUDGE_FAILED = "judge_failed"
UNSCORED = float("nan")


@scorer(
    metrics={"*": [pooled(), pooled_stderr(), by_question(), by_question_stderr(), error_by()]},
)
def in_words(rubric: str, words: Mapping[str, float | None], measure: str) -> Scorer:
    """Have a judge say one of a few words of each answer, and count what it stands for.

    Keys of a score: the measure, a key for each word that counts for nothing, and `judge_failed`.

    Args:
        rubric: Name of the rubric in the sample's `judge_prompts`.
        words: What the judge may say, and what that counts, 0 to 1; None: for neither side.
        measure: What is counted, e.g. `deceptive`.

    Raises:
        UserError: If the words or the measure cannot be counted.
    """
    counted = check_words(words, measure)

    async def score(state: TaskState, target: Target) -> Score:
        judge = grader()
        rating = await ask_word(
            judge,
            Rubric(rubric, str(state.metadata["judge_prompts"][rubric])),
            list(counted),
            question=str(state.metadata["question"]),
            answer=state.output.completion,
            ending=state.output.stop_reason,
        )
        return Score(
            value=dict(values_of(rating, counted, measure)),
            answer=state.output.completion,
            explanation=f"{rating.word or rating.failure} ({rating.reply!r})",
            reason=None if rating.word else "grader_failed",
            metadata={
                "outcome": (rating.word or JUDGE_FAILED).lower(),
                "judge": rating.judge,
                "ratings": {rubric: rating.model_dump(exclude_none=True)},
                **await identity_in(judge, rating),
            },
        )

    return score


def values_of(
    rating: WordRating, words: Mapping[str, float | None], measure: str
) -> dict[str, float]:
    """The numbers of one answer; NaN where its word counts for nothing, or there is none."""
    found = words.get(rating.word) if rating.word else None
    apart = [word for word, value in words.items() if value is None]
    return {
        measure: UNSCORED if found is None else float(found),
        **{key_of(word): float(rating.word == word) for word in apart},
        JUDGE_FAILED: float(rating.word is None),
    }


def key_of(word: str) -> str:
    """The key under which a word that counts for nothing is counted apart."""
    return re.sub(r"\W+", "_", word.lower()).strip("_")


def check_words(words: Mapping[str, float | None], measure: str) -> dict[str, float | None]:
    """Return the words as they can be counted.

    Raises:
        UserError: If fewer than two differ, none counts, or a value is not within 0 to 1; if the
            measure is no name, or that of another key.
    """
    kept = {str(word): value for word, value in words.items()}
    if len({word.casefold().strip() for word in kept}) < max(2, len(kept)):
        raise UserError(
            f"the words {', '.join(map(repr, kept)) or '(none)'} cannot be told apart: give two or "
            "more that differ in more than case"
        )
    wrong = [w for w, v in kept.items() if v is not None and not 0 <= v <= 1]
    if wrong:
        raise UserError(
            f"the word {wrong[0]!r} counts {kept[wrong[0]]!r}: give a number from 0 to 1, or None "
            "for a word that counts for nothing"
        )
    if all(value is None for value in kept.values()):
        raise UserError("no word counts for anything: give one of them a number, e.g. {'YES': 1}")
    taken = {JUDGE_FAILED, *(key_of(word) for word, value in kept.items() if value is None)}
    if not re.fullmatch(r"[A-Za-z]\w*", measure) or measure in taken:
        raise UserError(
            f"the measure {measure!r} is no name of its own: use letters, digits and _, and none "
            f"of {', '.join(sorted(taken))}"
        )
    return kept
