"""The yardstick: what answers were measured with, since only equal ones share a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ["task", "measure", "source", "fingerprint", "judge", "estimator", "rule"]
Key = tuple[str, ...]
Rubrics = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Alignment and coherence rubrics by question, as hashes."""

RUBRICS = ["alignment_rubric", "coherence_rubric"]


@dataclass(frozen=True)
class Yardstick:
    """Everything that must agree before two answers may be counted together.

    Attributes:
        task: Task name.
        measure: What is counted, e.g. `misaligned`.
        source: Where its questions came from.
        fingerprint: Fingerprint over its questions and rubrics.
        judge: Model that rated.
        estimator: How its numbers were read.
        rule: How its replies were read.
        rubrics: Hashes of the rubrics, alignment before coherence, sorted.
    """

    task: str
    measure: str
    source: str
    fingerprint: str
    judge: str
    estimator: str
    rule: str
    rubrics: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.task} · questions {self.source} · judge {self.judge}"


def yardsticks(frame: DataFrame) -> tuple[DataFrame, list[Yardstick]]:
    """Number the yardsticks of a frame, in a new column `yardstick`.

    A log in which a question was rated with another rubric than in the logs before it, e.g. after
    re-scoring, gets a yardstick of its own even where all else agrees.

    Returns:
        The frame with the column, and the yardsticks in the order of their numbers.
    """
    first = frame.groupby([*COLUMNS, "log", "question_id"], observed=True, sort=False)[RUBRICS]
    used = first.agg(lambda hashes: tuple(sorted(set(hashes)))).reset_index()
    found: list[tuple[Key, Rubrics]] = []
    number: dict[tuple[str, ...], int] = {}
    for key, part in used.groupby([*COLUMNS, "log"], observed=True, sort=False):
        rubrics: Rubrics = {
            str(row.question_id): (row.alignment_rubric, row.coherence_rubric)
            for row in part.itertuples()
        }
        number[key] = _place(found, key[:-1], rubrics)
    keys = zip(*(frame[name] for name in [*COLUMNS, "log"]), strict=True)
    marked = frame.assign(yardstick=[number[key] for key in keys])
    return marked, [_yardstick(key, rubrics) for key, rubrics in found]


def _place(found: list[tuple[Key, Rubrics]], key: Key, rubrics: Rubrics) -> int:
    for number, (known, questions) in enumerate(found):
        if known == key and all(questions.get(q, r) == r for q, r in rubrics.items()):
            questions.update(rubrics)
            return number
    found.append((key, dict(rubrics)))
    return len(found) - 1


def _yardstick(key: Key, rubrics: Rubrics) -> Yardstick:
    pairs = {(a, c) for ones, others in rubrics.values() for a in ones for c in others}
    task, measure, source, fingerprint, judge, estimator, rule = key
    return Yardstick(
        task, measure, source, fingerprint, judge, estimator, rule, tuple(sorted(pairs))
    )
