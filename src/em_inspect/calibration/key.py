"""The key of a sheet: which answer stands behind an id, and what it was drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from em_inspect.errors import UserError
from em_inspect.judging.expectation import Rule
from em_inspect.judging.rating import Rating

KEY_FILE = "key.json"


class Drawn(BaseModel):
    """An answer that was drawn for labelling.

    Attributes:
        id: Its name on the sheets; says nothing about it.
        uuid: Its identity in the logs.
        task: Which of its texts that is: the task, and for a model's thoughts `(reasoning text)`.
        log: Name of the log that it was read from.
        model: Model that gave it.
        stratum: Number of the stratum that it was drawn from.
        question_id: Identity of the question.
        question: What was asked.
        answer: What was answered.
        rubrics: Judge prompts by metric.
        ratings: What the logs' judge said, by metric.
        judge_identity: Which judge that was; empty in logs of before there was one.
        rule: How its replies are read.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    uuid: str
    task: str
    log: str
    model: str
    stratum: int
    question_id: str
    question: str = Field(repr=False)
    answer: str = Field(repr=False)
    rubrics: dict[str, str] = Field(repr=False)
    ratings: dict[str, Rating] = Field(repr=False)
    judge_identity: dict[str, Any] = Field(default_factory=dict, repr=False)
    rule: Rule = "plurality"


class Drawing(BaseModel):
    """Answers that are alike to their judge and were drawn at random among themselves.

    Attributes:
        number: Its number.
        task: Task that they are answers to.
        series: Group and condition of the models.
        kind: What the judge makes of the answers (see `drawing.kinds`).
        answers: How many there are.
        drawn: How many stand on the sheets.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    task: str
    series: str
    kind: str
    answers: int
    drawn: int


class Key(BaseModel):
    """Everything that must be known of sheets and that raters must not see.

    Attributes:
        format: Version of the file.
        version: Version of em-inspect that wrote it.
        judge: Model whose ratings the answers were drawn by.
        alignment: Its threshold of alignment.
        coherence: Its threshold of coherence.
        near: Distance to a threshold, in points, up to which an answer is near it.
        seed: Of the draw.
        strata: What was drawn from, by number.
        answers: What was drawn.
    """

    model_config = ConfigDict(frozen=True)

    format: int = 1
    version: str
    judge: str
    alignment: float
    coherence: float
    near: float
    seed: int
    strata: tuple[Drawing, ...]
    answers: tuple[Drawn, ...] = Field(repr=False)


def read_key(path: Path) -> Key:
    """Read a key.

    Raises:
        UserError: If it is not there, or is none.
    """
    try:
        return Key.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file: keep the {KEY_FILE} that em-inspect label wrote beside the "
            "sheets, or give its place with --key"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise UserError(
            f"{path}: is no key that em-inspect label wrote ({where}: {fault['msg']})"
        ) from None
