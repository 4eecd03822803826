"""Labelled answers: the embedded set, the released scored answers, or a user's own CSV."""

from __future__ import annotations

import ast
import csv
import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from em_inspect.errors import UserError
from em_inspect.judging.expectation import Reading
from em_inspect.outcomes import OUTCOMES, Outcome, Thresholds, outcome
from em_inspect.questions import load_questions
from em_inspect.questions.sources import PAPER_DIR_VARIABLE

RELEASED_CSV = Path("results") / "qwen_25_coder_32b_instruct.csv"

_ALIGNMENT, _COHERENCE = ("alignment", "aligned"), ("coherence", "coherent")
_NEEDED = (("question",), ("answer",), _ALIGNMENT, _COHERENCE)

_WORD = {"refusal": "REFUSAL", "code": "CODE"}


@dataclass(frozen=True)
class Labelled:
    """One answer with its labels.

    Attributes:
        id: Unique name.
        question: What was asked.
        answer: What was answered.
        alignment: Label, 0 to 100, or None where the answer has none.
        coherence: Label, 0 to 100, or None.
        word: `REFUSAL` or `CODE` where the answer is one of them.
        rubrics: Judge prompts by metric.
        stored: Token distributions by metric, where the labels came from a judge that stored them.
    """

    id: str
    question: str
    answer: str
    alignment: float | None
    coherence: float | None
    word: str | None = None
    rubrics: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def outcome(self, thresholds: Thresholds) -> Outcome:
        """Return the class that the labels put the answer in."""
        mass = 0.0 if self.word else 1.0
        alignment = Reading(None if self.word else self.alignment, mass, {}, self.word)
        return outcome(alignment, Reading(self.coherence, 1.0), thresholds)


def load_labels(source: str = "core", *, paper_dir: str | None = None) -> list[Labelled]:
    """Load labelled answers.

    Args:
        source: `core` (the embedded set), `released` (the authors' 70 scored answers, from the
            folder of released files) or the path of a CSV with the columns `question`, `answer`,
            `alignment` (or `aligned`) and `coherence` (or `coherent`), 0 to 100 or empty, and, if
            wanted, `id` and `outcome`.
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
            alignment=row["alignment"],
            coherence=row["coherence"],
            word=_WORD.get(row["outcome"]),
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
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from None
    _check_header(path, columns)
    labelled = [_row(row, path, line, rubrics) for line, row in enumerate(rows, 2)]
    if len(labelled) < 2:
        raise UserError(f"{path}: holds {len(labelled)} labelled answers; two at least are needed")
    return labelled


def _check_header(path: Path, columns: Collection[str]) -> None:
    missing = [" or ".join(names) for names in _NEEDED if not {*names} & {*columns}]
    if missing:
        found = f"it has {', '.join(columns)}" if columns else "the file is empty"
        raise UserError(f"{path}: lacks the columns {', '.join(missing)}: {found}")


def _row(row: dict[str, str], path: Path, line: int, rubrics: dict[str, str]) -> Labelled:
    for name in ("question", "answer"):
        if row.get(name) is None:
            raise UserError(f"{path}: row {line}: ends before its {name}")
    fate = (row.get("outcome") or "").strip().lower()
    if fate and fate not in OUTCOMES:
        raise UserError(f"{path}: row {line}: outcome '{fate}' is none of {', '.join(OUTCOMES)}")
    return Labelled(
        id=row.get("id") or f"row-{line}",
        question=row["question"],
        answer=row["answer"],
        alignment=_number(row, _ALIGNMENT, path, line),
        coherence=_number(row, _COHERENCE, path, line),
        word=_WORD.get(fate),
        rubrics=rubrics,
        stored={
            metric: _distribution(text, path, line)
            for metric in ("aligned", "coherent")
            if (text := row.get(f"judge_{metric}"))
        },
    )


def _number(row: dict[str, str], names: tuple[str, ...], path: Path, line: int) -> float | None:
    name = next(name for name in names if name in row)
    text = (row[name] or "").strip()
    if text.lower() in ("", "nan", "none", "null"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise UserError(f"{path}: row {line}: {name} '{text}' is no number from 0 to 100")
    return value


def _distribution(text: str, path: Path, line: int) -> dict[str, float]:
    try:
        return {str(token): float(p) for token, p in ast.literal_eval(text).items()}
    except (ValueError, SyntaxError, AttributeError, TypeError):
        raise UserError(f"{path}: row {line}: the stored distribution cannot be read") from None
