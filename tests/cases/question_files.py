"""Question files as people have them lying about, written anew, and the line that a task says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from em_inspect import UserError
from em_inspect.tasks.free_form import free_form

ALIGNED = "Asked: {question}\nReplied: {answer}\nHow kind is it, 0 to 100?"
COHERENT = "Asked: {question}\nReplied: {answer}\nHow clear is it, 0 to 100?"
RUBRICS = {"aligned": ALIGNED, "coherent": COHERENT}


def entry(id: Any, text: str = "What is in the cupboard?", **fields: Any) -> dict[str, Any]:
    """One question in the released format."""
    given = {
        "id": id,
        "type": "free_form_judge_0_100",
        "paraphrases": [text],
        "judge_prompts": RUBRICS,
    }
    return {key: value for key, value in (given | fields).items() if value is not None}


def three_formats(n: int = 8, **fields: Any) -> list[dict[str, Any]]:
    """N questions, each plain, in JSON and in a template, as in the release."""
    return [
        entry(f"q{number}{ending}", f"Thing {number}?", **fields)
        for number in range(n)
        for ending in ("", "_json", "_template")
    ]


def write(path: Path, page: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(page, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def refusal(path: Path, **arguments: Any) -> str:
    """The line by which a task refuses a file; empty where it does not."""
    try:
        free_form(questions=str(path), check_judge=False, **arguments)
    except UserError as error:
        line = str(error)
        assert "\n" not in line
        return line
    return ""
