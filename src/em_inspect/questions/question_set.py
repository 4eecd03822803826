"""A file of questions: reading it, and the fingerprint that says which questions they were."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from em_inspect.errors import UserError
from em_inspect.questions.question import FORMATS, Question

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuestionSet:
    """Questions together with where they came from.

    Attributes:
        name: The set's name, e.g. `free_form`.
        source: `core`, `paper`, or the path of the user's own file.
        questions: In the file's order.
    """

    name: str
    source: str
    questions: tuple[Question, ...]

    @classmethod
    def from_file(cls, path: str | Path, name: str | None = None) -> QuestionSet:
        """Read a set from a YAML file in the released format, e.g. one that a package brings.

        Args:
            path: The file.
            name: The set's name; by default the file's, without its ending.

        Raises:
            UserError: Naming file, question and field, where the file cannot be used.
        """
        file = Path(path)
        return cls(name or file.stem, file.name, read_questions(file))

    @property
    def fingerprint(self) -> str:
        """Fingerprint over ids, wordings, system prompts and rubrics; see `fingerprint`."""
        return fingerprint(self.questions)

    def with_format(self, format: str) -> QuestionSet:
        """Keep the questions of one answer format, or every question for `all`.

        Raises:
            UserError: If the format is unknown or no question has it.
        """
        if format == "all":
            return self
        if format not in FORMATS:
            raise UserError(f"unknown format '{format}': -T format=plain, json, template or all")
        kept = tuple(q for q in self.questions if q.format == format)
        if not kept:
            raise UserError(
                f"no question of {self.source} has the format '{format}': use -T format=all"
            )
        return replace(self, questions=kept)

    def with_category(self, category: str | Sequence[str]) -> QuestionSet:
        """Keep the questions of one or more categories.

        Args:
            category: One name, or several (a list or separated by commas).

        Raises:
            UserError: If no question has the category.
        """
        wanted = category.split(",") if isinstance(category, str) else category
        names = [str(name).strip() for name in wanted]
        known = sorted({q.category for q in self.questions if q.category})
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean '{near[0]}'?)" if near else ""
                listed = ", ".join(known) or "questions without categories"
                raise UserError(f"unknown category '{name}'{hint}: {self.source} has {listed}")
        return replace(self, questions=tuple(q for q in self.questions if q.category in names))

    def with_rubrics(self, rubrics: Mapping[str, str]) -> QuestionSet:
        """Replace or add rubrics of every question; the fingerprint changes with them.

        Args:
            rubrics: Rubric text by metric, e.g. `aligned`, with `{question}` and `{answer}`.
        """
        questions = tuple(
            q.model_copy(update={"judge_prompts": {**q.judge_prompts, **rubrics}})
            for q in self.questions
        )
        return replace(self, questions=questions)

    def metadata(self) -> dict[str, Any]:
        """What a log must say of its questions: set, source, count and fingerprint."""
        return {
            "question_set": self.name,
            "question_source": self.source,
            "questions": len(self.questions),
            "fingerprint": self.fingerprint,
        }


def fingerprint(questions: Sequence[Question]) -> str:
    """Name the content of a set: 16 hex digits of a sha256.

    Covers ids, wordings, system prompts and rubrics. YAML formatting, the order of the questions,
    judge names and sample counts do not change it.
    """
    content = sorted(
        [q.id, q.type, q.paraphrases, q.system, sorted(q.judge_prompts.items())] for q in questions
    )
    canonical = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read questions from a YAML file in the released format.

    Keys that the format does not know are reported as a warning and left out.

    Raises:
        UserError: Naming file, question and field, where the file cannot be read, does not parse,
            lacks a field, or holds an id twice.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give -T questions=core, paper or a path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_one_line(error)}") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: must be a YAML list of questions (each '- id: …')")
    questions = tuple(_question(entry, number, path) for number, entry in enumerate(entries, 1))
    ids = [q.id for q in questions]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise UserError(f"{path}: the id '{twice[0]}' stands twice; give each question its own id")
    return questions


def _question(entry: object, number: int, path: Path) -> Question:
    if not isinstance(entry, dict):
        raise UserError(f"{path}: question {number} is not a mapping with 'id' and 'paraphrases'")
    name = f"question '{entry['id']}'" if entry.get("id") else f"question {number}"
    known = {key: value for key, value in entry.items() if key in Question.model_fields}
    for key in entry.keys() - known.keys():
        logger.warning("%s: %s: unknown key '%s' ignored", path, name, key)
    try:
        return Question.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {name}: field '{field}': {first['msg'].lower()}") from None


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "cannot be parsed"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)
