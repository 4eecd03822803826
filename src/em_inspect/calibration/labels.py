"""Labelled answers: the embedded set, the released scored answers, a user's CSV, filled sheets."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from em_inspect.analysis.csv_file import CsvFile, Row, is_missing, rating, say_bad_rows
from em_inspect.analysis.csv_file import read_csv_file as read_file
from em_inspect.calibration.key import Drawn
from em_inspect.errors import UserError
from em_inspect.judging.expectation import Reading
from em_inspect.outcomes import OUTCOMES, Outcome, Thresholds, outcome
from em_inspect.questions import load_questions
from em_inspect.questions.sources import PAPER_DIR_VARIABLE

RELEASED_CSV = Path("results") / "qwen_25_coder_32b_instruct.csv"

ALIGNMENT, COHERENCE = ("alignment", "aligned"), ("coherence", "coherent")

WORDS: Mapping[str, str] = {"refusal": "REFUSAL", "code": "CODE"}
"""Outcomes that an answer has whatever its numbers are, and the judge's word for each."""

FEWEST = 2
"""Labelled answers that a calibration needs at least."""


@dataclass(frozen=True)
class Label:
    """What one reading of an answer says of it.

    Attributes:
        alignment: 0 to 100, or None where there is none.
        coherence: 0 to 100, or None.
        given: The outcome, where it was given instead of numbers, or is `refusal` or `code`.
    """

    alignment: float | None = None
    coherence: float | None = None
    given: Outcome | None = None

    @property
    def word(self) -> str | None:
        """`REFUSAL` or `CODE` where the answer is one of them."""
        return WORDS.get(self.given or "")

    @property
    def empty(self) -> bool:
        """Whether nothing was filled in."""
        return self == Label()

    def outcome(self, thresholds: Thresholds) -> Outcome:
        """Return the class of the answer; `judge_failed` where the label doesn't say.

        Refusal and code come first, then numbers, then the outcome that was given without them. An
        incoherent answer needs no number for alignment.
        """
        without_alignment = self.word is None and self.alignment is None
        if without_alignment and self.coherence is not None:
            return "incoherent" if self.coherence < thresholds.coherence else self._else
        mass = 0.0 if self.word else 1.0
        alignment = Reading(None if self.word else self.alignment, mass, {}, self.word)
        found = outcome(alignment, Reading(self.coherence, 1.0), thresholds)
        return self._else if found == "judge_failed" else found

    @property
    def _else(self) -> Outcome:
        """The class where there are no numbers to go by."""
        return self.given or "judge_failed"


@dataclass(frozen=True)
class Labelled:
    """One answer with its label.

    Attributes:
        id: Unique name.
        question: What was asked.
        answer: What was answered.
        label: What is known of it.
        rubrics: Judge prompts by metric.
        stored: Token distributions by metric, where the labels came from a judge that stored them.
        raters: What each rater said, in the order of their sheets, where several did.
        drawn: How the answer was drawn from logs, where it was.
    """

    id: str
    question: str
    answer: str
    label: Label
    rubrics: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    raters: tuple[Label, ...] = ()
    drawn: Drawn | None = None

    @property
    def alignment(self) -> float | None:
        """Number of the label, 0 to 100, or None."""
        return self.label.alignment

    @property
    def coherence(self) -> float | None:
        """Number of the label, 0 to 100, or None."""
        return self.label.coherence

    def outcome(self, thresholds: Thresholds) -> Outcome:
        """Return the class that the label puts the answer in."""
        return self.label.outcome(thresholds)


def load_labels(source: str = "core", *, paper_dir: str | None = None) -> list[Labelled]:
    """Load labelled answers.

    Args:
        source: `core` (the embedded set), `released` (the authors' 70 scored answers, from the
            folder of released files) or the path of a CSV with the columns `question`, `answer`,
            `alignment` (or `aligned`) and `coherence` (or `coherent`), 0 to 100 or empty, and, if
            wanted, `id` and `outcome`. Filled sheets have `sheet.load_sheets`.
        paper_dir: Folder with the released files; without it `EM_INSPECT_PAPER_DIR` is looked up.

    Raises:
        UserError: Where there is no such file, or a row cannot be read.
    """
    if source == "core":
        return _core()
    if source == "released":
        return _released(paper_dir)
    path = Path(source).expanduser()
    if path.is_dir():
        raise UserError(f"{path}: is a directory; give --labels core, released or a CSV")
    if not path.is_file():
        raise UserError(f"{path}: no such file; give --labels core, released or a CSV")
    return _rows(path, dict(_rubrics("core")))


def core_rubrics() -> Mapping[str, str]:
    """The embedded judge prompts by metric, for answers that come without any."""
    return _rubrics("core")


def _rubrics(source: str, paper_dir: str | None = None) -> Mapping[str, str]:
    questions = load_questions("free_form", source, paper_dir=paper_dir).questions
    return questions[0].judge_prompts


def _core() -> list[Labelled]:
    rubrics = _rubrics("core")
    file = resources.files("em_inspect.questions") / "sets" / "calibration.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
    return [
        Labelled(
            id=row["id"],
            question=row["question"],
            answer=row["answer"],
            label=Label(
                row["alignment"],
                row["coherence"],
                row["outcome"] if row["outcome"] in WORDS else None,
            ),
            rubrics=rubrics,
        )
        for row in rows
    ]


def _released(paper_dir: str | None) -> list[Labelled]:
    folder = paper_dir or os.environ.get(PAPER_DIR_VARIABLE)
    if not folder:
        raise UserError(
            "the released answers lie in the authors' repository: give its folder with "
            f"--paper-dir DIR or {PAPER_DIR_VARIABLE}=DIR"
        )
    root = Path(folder).expanduser()
    for path in (root / RELEASED_CSV, root / RELEASED_CSV.name):
        if path.is_file():
            return _rows(path, dict(_rubrics("paper", folder)))
    raise UserError(f"{root}: no {RELEASED_CSV} in it: point --paper-dir to the released files")


def _rows(path: Path, rubrics: dict[str, str]) -> list[Labelled]:
    file = read_whole(path)
    require_texts(file, ALIGNMENT, COHERENCE)
    found = [_row(row, path, rubrics) for row in file.rows]
    unique({row.line: one.id for row, one in zip(file.rows, found, strict=True)}, path)
    if sum(not one.label.empty for one in found) < FEWEST:
        raise UserError(
            f"{path}: holds {sum(not one.label.empty for one in found)} labelled answers; "
            f"{FEWEST} at least are needed"
        )
    return found


def read_whole(path: Path, *needed: Sequence[str]) -> CsvFile:
    """Read a CSV of labels, of which no row may be lost: who labels rows counts on all of them.

    Args:
        path: The file.
        needed: Names that a needed column may have, one sequence per column.

    Raises:
        UserError: If a column is missing, or a row cannot be read.
    """
    file = read_file(path)
    file.require(*needed)
    if file.bad:
        said = say_bad_rows(file.bad).removesuffix(": left out")
        raise UserError(f"{path}: {said}: mend it, so that no label is lost")
    return file


def require_texts(file: CsvFile, *needed: Sequence[str]) -> None:
    """Check that a CSV holds the answers that it labels, and other columns.

    Args:
        file: The CSV.
        needed: Names that a further needed column may have, one sequence per column.

    Raises:
        UserError: If it doesn't; with ids it is a sheet, whose key has them.
    """
    if "id" in file.columns and not {"question", "answer"} & {*file.columns}:
        raise UserError(
            f"{file.path}: holds no questions and answers: put the key.json that em-inspect label "
            "wrote beside it, or give its place with --key"
        )
    file.require(("question",), ("answer",), *needed)


def unique(ids: Mapping[int, str], path: Path) -> None:
    """Check that no two rows have one id.

    Raises:
        UserError: Naming both lines.
    """
    first: dict[str, int] = {}
    for line, name in ids.items():
        if name in first:
            raise UserError(
                f"{path}: line {line}: the id '{name}' stands in line {first[name]} already: "
                "give every answer its own"
            )
        first[name] = line


def _row(row: Row, path: Path, rubrics: dict[str, str]) -> Labelled:
    return Labelled(
        id=row.cells.get("id") or f"row-{row.line}",
        question=row.cells["question"],
        answer=row.cells["answer"],
        label=label_of(row, path),
        rubrics=rubrics,
        stored={
            metric: _distribution(text, path, row.line)
            for metric in ("aligned", "coherent")
            if (text := row.cells.get(f"judge_{metric}"))
        },
    )


def label_of(row: Row, path: Path) -> Label:
    """Read a row's label.

    Raises:
        UserError: If a number is off the scale, or the outcome is none.
    """
    given = row.cells.get("outcome", "").strip().lower()
    if is_missing(given) or given == "judge_failed":
        given = ""
    if given and given not in OUTCOMES:
        known = ", ".join(name for name in OUTCOMES if name != "judge_failed")
        raise UserError(f"{path}: line {row.line}: outcome '{given}' is none of {known}")
    return Label(
        _number(row, ALIGNMENT, path),
        _number(row, COHERENCE, path),
        next((name for name in OUTCOMES if name == given), None),
    )


def _number(row: Row, names: tuple[str, ...], path: Path) -> float | None:
    name = next((name for name in names if name in row.cells), None)
    try:
        return rating(row.cells[name]) if name else None
    except ValueError as error:
        raise UserError(f"{path}: line {row.line}: {name} {error}") from None


def _distribution(text: str, path: Path, line: int) -> dict[str, float]:
    try:
        return {str(token): float(p) for token, p in ast.literal_eval(text).items()}
    except (ValueError, SyntaxError, AttributeError, TypeError):
        raise UserError(f"{path}: line {line}: the stored distribution cannot be read") from None
