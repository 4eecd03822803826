"""A file of questions: reading it, and the fingerprint that says which questions they were."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from em_inspect.errors import UserError
from em_inspect.judging.rubric import Rubric
from em_inspect.pages import checked, did_you_mean, read_entries
from em_inspect.questions.question import FORMATS, Question

logger = logging.getLogger(__name__)

SOURCES = ("core", "paper")
"""Sources that are no file of the user's."""


@dataclass(frozen=True)
class QuestionSet:
    """Questions together with where they came from.

    Attributes:
        name: The set's name, e.g. `free_form`.
        source: `core`, `paper`, or the path of the user's own file.
        questions: In the file's order.
        whole: Fingerprint of all questions that this is a choice of; by default its own.
    """

    name: str
    source: str
    questions: tuple[Question, ...]
    whole: str = ""

    def __post_init__(self) -> None:
        if not self.whole:
            object.__setattr__(self, "whole", self.fingerprint)

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
        """Fingerprint over the questions of this choice; see `fingerprint`."""
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

    def asked(self, format: str | None = None) -> QuestionSet:
        """Keep what a task asks: one answer format, or by default each question once.

        A question `x` that stands in the set as `x_json` or `x_template` too, as in the release, is
        asked without these formats, as for the paper's main result; for the user's own file that is
        said.

        Args:
            format: `plain`, `json`, `template` or `all`; None is the default.

        Raises:
            UserError: If the format is unknown or no question has it.
        """
        if format is not None:
            return self.with_format(format)
        plain = {question.id for question in self.questions if question.format == "plain"}
        kept = tuple(q for q in self.questions if _stem(q) not in plain)
        if len(kept) < len(self.questions) and self.source not in SOURCES:
            logger.warning(
                "%s: %d of its %d questions are asked, without the same in JSON and templates; "
                "-T format=all asks all (fingerprint %s)",
                self.source,
                len(kept),
                len(self.questions),
                self.whole,
            )
        return replace(self, questions=kept)

    def require_rubrics(self, metrics: Sequence[str]) -> None:
        """Make sure that every question has the rubrics that its answers are judged by.

        Rubrics that nothing asks for are named in a warning.

        Args:
            metrics: Names of the rubrics, e.g. `aligned` and `coherent`.

        Raises:
            UserError: Naming file, question and rubric, where one is missing or its placeholders
                are not those that are filled in.
        """
        for question in self.questions:
            require_rubrics(question, metrics, f"{self.source}: ")
        unread = {name: None for q in self.questions for name in q.judge_prompts}
        unread = {name: None for name in unread if name not in metrics}
        if unread and self.source not in SOURCES:
            logger.warning(
                "%s: rubrics %s are not used: answers are judged by %s alone",
                self.source,
                ", ".join(unread),
                " and ".join(metrics),
            )

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
                near = did_you_mean(name, known)
                listed = ", ".join(known) or "questions without categories"
                raise UserError(f"unknown category '{name}'{near}: {self.source} has {listed}")
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
        return replace(self, questions=questions, whole="")

    def metadata(self) -> dict[str, Any]:
        """What a log must say of its questions: set, source, count and fingerprints.

        `fingerprint` is the file's, whichever of its questions are asked, as in a refusal and in
        every table; `asked_fingerprint` covers those that are.
        """
        return {
            "question_set": self.name,
            "question_source": self.source,
            "questions": len(self.questions),
            "fingerprint": self.whole,
            "asked_fingerprint": self.fingerprint,
        }


def require_rubrics(question: Question, metrics: Sequence[str], where: str = "") -> None:
    """Make sure that a question has rubrics, with the placeholders that are filled in.

    Args:
        question: The question.
        metrics: Names of the rubrics.
        where: What a message begins with, e.g. the file.

    Raises:
        UserError: Naming question and rubric.
    """
    for metric in metrics:
        text = question.judge_prompts.get(metric)
        if text is None:
            raise UserError(
                f"{where}question '{question.id}': field 'judge_prompts' lacks '{metric}': "
                "add the rubric (core's own can be copied) or use the task that asks for it"
            )
        if fault := Rubric(metric, text).fault:
            raise UserError(f"{where}question '{question.id}': rubric '{metric}' {fault}")


def _stem(question: Question) -> str | None:
    """Id of the question that this one is another format of, or None for a plain one."""
    return None if question.format == "plain" else question.id.removesuffix(f"_{question.format}")


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

    Keys that the format does not know are left out, with one warning for each, however many
    questions have it.

    Raises:
        UserError: Naming file, question and field, where the file cannot be read, does not parse,
            lacks a field, or holds an id twice.
    """
    entries = read_entries(path, "question", "id", "give -T questions=core, paper or a path")
    unknown: dict[str, list[str]] = {}
    for where, entry in entries:
        for key in entry.keys() - Question.model_fields.keys():
            unknown.setdefault(str(key), []).append(where)
    for key, places in sorted(unknown.items()):
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        logger.warning("%s%s: unknown key '%s' ignored", places[0], more, key)
    return tuple(_question(entry, where) for where, entry in entries)


def _question(entry: dict[str, Any], where: str) -> Question:
    known = {key: value for key, value in entry.items() if key in Question.model_fields}
    return checked(Question, known, where)
