"""Reading results in the release's CSV form, so that old numbers can be compared."""

from __future__ import annotations

import ast
import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from em_inspect.analysis.answer import Answer, Problem
from em_inspect.analysis.logs import Progress
from em_inspect.analysis.origin import Groups
from em_inspect.errors import UserError
from em_inspect.judging.expectation import WORDS, Reading, Rule, read
from em_inspect.outcomes import check_rule
from em_inspect.questions import question_format
from em_inspect.questions.question import Question

NAN = float("nan")
NEEDED = ("answer", "aligned", "coherent")
NOT_STATED = "not stated"

# Python's default of 128 KB per cell is less than a long answer with its distribution.
_CELL = 2**24


def read_csv(
    path: Path,
    problems: list[Problem],
    *,
    groups: Groups | None = None,
    rule: str | None = None,
    progress: Progress | None = None,
) -> Iterator[Answer]:
    """Read the rows of a CSV with the release's columns.

    Needed are `answer`, `aligned`, `coherent` and `question_id` or `question`; `model`, `group`,
    `seed`, `judge`, `judge_aligned` and `judge_coherent` (token distributions) are used where they
    stand. The released scores are taken as they are, unless a rule is named and the distributions
    are there to be read by it.

    Args:
        path: The file.
        problems: Added to where rows or the whole file are left out.
        groups: The user's table of models.
        rule: How distributions are read, or None for the file's own scores.
        progress: Called with the number of rows just read.

    Raises:
        UserError: If the rule is unknown.
    """
    reading_rule = check_rule(rule) if rule else None
    csv.field_size_limit(_CELL)
    broken = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = set(rows.fieldnames or ())
            missing = [name for name in NEEDED if name not in columns]
            if not columns & {"question_id", "question"}:
                missing.append("question_id")
            if missing:
                said = f"lacks the column {', '.join(missing)}: left out"
                problems.append(Problem(path.name, said))
                return
            for number, row in enumerate(rows, 1):
                try:
                    yield _answer(path, number, row, groups or {}, reading_rule)
                except (ValueError, TypeError, SyntaxError, UserError):
                    broken.append(number)
                if progress:
                    progress(1)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(Problem(path.name, f"cannot be read to its end ({error})"))
    if broken:
        shown = ", ".join(map(str, broken[:5])) + (" …" if len(broken) > 5 else "")
        problems.append(
            Problem(path.name, f"{len(broken)} rows do not parse (row {shown}): left out")
        )


def _answer(
    path: Path, number: int, row: Mapping[str, str | None], groups: Groups, rule: Rule | None
) -> Answer:
    model = row.get("model") or path.stem
    said = {**{k: v for k, v in row.items() if v}, **(groups.get(model) or {})}
    alignment = _reading(row.get("aligned"), row.get("judge_aligned"), rule)
    coherence = _reading(row.get("coherent"), row.get("judge_coherent"), rule)
    question_id = row.get("question_id") or row.get("question") or ""
    failed = coherence.score is None or (alignment.score is None and alignment.word is None)
    known = bool(row.get("judge_aligned"))
    return Answer(
        log=str(path),
        run=path.name,
        uuid=f"{path.name}/{number}",
        task="free_form",
        model=model,
        base=None,
        group=str(said.get("group") or model),
        seed=_whole(said.get("seed")),
        step=_whole(said.get("step")),
        scale=float(said["scale"]) if said.get("scale") else None,
        question_id=question_id,
        question=row.get("question") or "",
        format=question_format(question_id),
        category=Question(id=question_id or "-", paraphrases=["-"]).category,
        context=row.get("context") or None,
        arm=row.get("arm") or None,
        examples=None,
        epoch=number,
        sample=question_id,
        answer=row.get("answer") or "",
        alignment=NAN if alignment.score is None else alignment.score,
        coherence=NAN if coherence.score is None else coherence.score,
        alignment_mass=alignment.mass,
        coherence_mass=coherence.mass,
        refusal_mass=alignment.words.get("REFUSAL", 0.0) if known else NAN,
        code_mass=alignment.words.get("CODE", 0.0) if known else NAN,
        word=alignment.word,
        label=None,
        measure="misaligned",
        value=NAN,
        reason="no_number" if failed else None,
        judge=row.get("judge") or NOT_STATED,
        estimator="one_token" if known else NOT_STATED,
        rule=rule or "released",
        alignment_rubric=NOT_STATED,
        coherence_rubric=NOT_STATED,
        source=path.name,
        fingerprint=NOT_STATED,
        length=len(row.get("answer") or ""),
    )


def _reading(score: str | None, distribution: str | None, rule: Rule | None) -> Reading:
    found = None
    if distribution:
        pairs = ast.literal_eval(distribution)
        found = read({str(token): float(p) for token, p in pairs.items()}, rule or "released")
        if rule is not None:
            return found
    mass, words = (found.mass, found.words) if found else (NAN, {})
    text = (score or "").strip()
    if text.upper() in WORDS:
        return Reading(None, mass, words, text.upper())
    number = float(text) if text else NAN
    if math.isnan(number):
        return Reading(None, mass, words)
    if not 0 <= number <= 100:
        raise ValueError(f"{number} is off the scale")
    return Reading(number, mass, words)


def _whole(value: object) -> int | None:
    return int(float(str(value))) if value not in (None, "") else None
