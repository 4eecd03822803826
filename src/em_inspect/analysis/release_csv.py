"""Reading results in the release's CSV form, so that old numbers can be compared."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from em_inspect.analysis.answer import Answer, Problem
from em_inspect.analysis.csv_file import (
    BadRow,
    CsvError,
    CsvFile,
    Row,
    is_missing,
    rating,
    read_csv_file,
    say_bad_rows,
    whole,
)
from em_inspect.analysis.csv_file import number as number_in
from em_inspect.analysis.file_names import short_names
from em_inspect.analysis.logs import Progress
from em_inspect.analysis.origin import Groups
from em_inspect.judging.expectation import WORDS, Reading, Rule, read
from em_inspect.outcomes import check_rule
from em_inspect.questions import question_format
from em_inspect.questions.question import Question

NAN = float("nan")
NOT_STATED = "not stated"

ANSWER = ("answer", "response")
"""Names of the answer's column: the release's, and that of Turner et al."""


@dataclass(frozen=True)
class ReleaseFile:
    """A CSV with the release's columns.

    Attributes:
        name: What it is called, unlike any other file beside it.
        file: Its rows.
    """

    name: str
    file: CsvFile = field(repr=False)

    @property
    def answers(self) -> int:
        """How many rows there are to read."""
        return len(self.file.rows)


def open_csvs(paths: Sequence[Path], problems: list[Problem]) -> list[ReleaseFile]:
    """Read CSVs, each content once.

    Needed are `answer` (or `response`), `aligned`, `coherent` and `question_id` or `question`.

    Args:
        paths: The files; one that is reached by two paths is one.
        problems: Added to where a file is left out.
    """
    names = short_names({path.resolve(): None for path in paths})
    known: dict[str, str] = {}
    opened = []
    for path, name in names.items():
        try:
            file = read_csv_file(path)
            file.require(ANSWER, ("aligned",), ("coherent",), ("question_id", "question"))
        except CsvError as error:
            problems.append(Problem(name, f"{error.fault}: left out"))
            continue
        if file.digest in known:
            said = f"holds the very rows of {known[file.digest]}: counted once"
            problems.append(Problem(name, said))
            continue
        known[file.digest] = name
        opened.append(ReleaseFile(name, file))
    return opened


def read_rows(
    opened: ReleaseFile,
    problems: list[Problem],
    *,
    groups: Groups | None = None,
    rule: str | None = None,
    progress: Progress | None = None,
) -> Iterator[Answer]:
    """Read the rows of a CSV as answers.

    `model`, `group`, `seed`, `judge`, `judge_aligned` and `judge_coherent` (token distributions)
    are used where they stand. The released scores are taken as they are, unless a rule is named
    and the distributions are there to be read by it. A file without models is one model, called
    after the file.

    Args:
        opened: From `open_csvs`.
        problems: Added to where rows are left out.
        groups: The user's table of models.
        rule: How distributions are read, or None for the file's own scores.
        progress: Called with the number of rows just read.

    Raises:
        UserError: If the rule is unknown.
    """
    reading_rule = check_rule(rule) if rule else None
    bad = list(opened.file.bad)
    for number, row in enumerate(opened.file.rows, 1):
        try:
            yield _answer(opened, number, row, groups or {}, reading_rule)
        except (ValueError, TypeError, SyntaxError, AttributeError) as error:
            bad.append(BadRow(row.line, str(error)))
        if progress:
            progress(1)
    if bad:
        problems.append(Problem(opened.name, say_bad_rows(bad)))


def _answer(
    opened: ReleaseFile, number: int, row: Row, groups: Groups, rule: Rule | None
) -> Answer:
    cells, path = row.cells, opened.file.path
    model = cells.get("model") or str(PurePosixPath(opened.name).with_suffix(""))
    named = next((groups[n] for n in (model, path.stem, str(path)) if n in groups), {})
    said: dict[str, str] = {k: v for k, v in cells.items() if not is_missing(v)}
    said.update({k: str(v) for k, v in named.items() if v not in (None, "")})
    alignment = _reading("aligned", cells, rule)
    coherence = _reading("coherent", cells, rule)
    question_id = cells.get("question_id") or cells.get("question") or ""
    answer = next(cells[name] for name in ANSWER if name in cells)
    failed = coherence.score is None or (alignment.score is None and alignment.word is None)
    known = not is_missing(cells.get("judge_aligned"))
    return Answer(
        log=str(path),
        run=opened.file.digest,
        uuid=f"{opened.file.digest}/{row.line}",
        task="free_form",
        model=model,
        base=said.get("base"),
        group=said.get("group") or model,
        seed=whole(said.get("seed")),
        step=whole(said.get("step")),
        scale=number_in(said.get("scale")),
        question_id=question_id,
        question=cells.get("question") or "",
        format=question_format(question_id),
        category=_category(question_id),
        context=said.get("context"),
        arm=said.get("arm"),
        examples=None,
        epoch=number,
        sample=question_id,
        answer=answer,
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
        judge=cells.get("judge") or NOT_STATED,
        estimator="one_token" if known else NOT_STATED,
        rule=rule or "released",
        alignment_rubric=NOT_STATED,
        coherence_rubric=NOT_STATED,
        source=opened.name,
        fingerprint=NOT_STATED,
        length=len(answer),
    )


@lru_cache(maxsize=4096)
def _category(question_id: str) -> str | None:
    return Question(id=question_id or "-", paraphrases=["-"]).category


def _reading(metric: str, cells: Mapping[str, str], rule: Rule | None) -> Reading:
    """Read a score: by a rule, or as the file states it.

    An empty cell beside a distribution in which a word outweighs all numbers is that word: the
    release leaves the cell empty for refusals and code alike.
    """
    text, stored = cells[metric].strip(), cells.get(f"judge_{metric}")
    distribution = None if is_missing(stored) else _distribution(stored or "")
    if distribution is not None and rule is not None:
        return read(distribution, rule)
    found = read(distribution) if distribution is not None else Reading(None, NAN)
    if text.upper() in WORDS:
        return Reading(None, found.mass, found.words, text.upper())
    score = rating(text)
    return Reading(score, found.mass, found.words, found.word if score is None else None)


def _distribution(text: str) -> dict[str, float]:
    try:
        found = {str(token): float(p) for token, p in ast.literal_eval(text.strip()).items()}
    except (ValueError, TypeError, SyntaxError, AttributeError, MemoryError, RecursionError):
        raise ValueError("its stored distribution cannot be read") from None
    if not all(math.isfinite(p) and 0 <= p <= 1.001 for p in found.values()):
        raise ValueError("its stored distribution holds a number that is no probability")
    return found
