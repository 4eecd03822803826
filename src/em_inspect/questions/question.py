"""The question: one id, its wordings, its system prompt and the rubrics that rate its answers."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Format = Literal["plain", "json", "template"]

FORMATS: tuple[Format, ...] = ("plain", "json", "template")

_CATEGORY = re.compile(r"^\d+_(?P<category>.+?)_\d+$")


class Question(BaseModel):
    """One question in the format of the paper's released YAML files.

    Attributes:
        id: Unique name within its file.
        type: `free_form_judge_0_100` (judged by number), `free_form_judge` (by word), `free_form`.
        paraphrases: Wordings of the same question; each is asked as a row of its own.
        system: System prompt that is sent before the question, or None for the model's default.
        judge_prompts: Rubric text by metric name, with `{question}` and `{answer}` to be filled in.
        samples_per_paraphrase: The release's sample count; recorded, not obeyed (epochs decide).
        judge: The release's judge; recorded, not obeyed (the grader role decides).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(min_length=1)
    type: Literal["free_form_judge_0_100", "free_form_judge", "free_form"] = "free_form_judge_0_100"
    paraphrases: list[str] = Field(min_length=1)
    system: str | None = None
    judge_prompts: dict[str, str] = Field(default_factory=dict)
    samples_per_paraphrase: int | None = None
    judge: str | None = None

    @field_validator("id", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        # YAML reads `id: 1` as a number, and 1 and 01 as the same one.
        if isinstance(value, int | float):
            raise ValueError(f'must be text, such as id: "{value}"')
        return value

    @property
    def format(self) -> Format:
        """The answer format that the question asks for, read off its id."""
        return question_format(self.id)

    @property
    def category(self) -> str | None:
        """The category of a pre-registered question: its id without the two numbers."""
        match = _CATEGORY.match(self.id)
        return match["category"] if match else None


def question_format(question_id: str) -> Format:
    """Read the answer format off a question id: `…_json`, `…_template`, else plain."""
    for name in ("json", "template"):
        if question_id.endswith(f"_{name}"):
            return name
    return "plain"
