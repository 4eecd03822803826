"""Question files of other tools: refused in one line that names file, entry and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from question_files import RUBRICS, entry, refusal, write

from em_inspect import UserError
from em_inspect.tasks.multiple_choice import multiple_choice

KINDS = "'free_form_judge_0_100', 'free_form_judge' or 'free_form'"
PAGES: dict[str, tuple[Any, list[str]]] = {
    "names": (
        [
            {
                "name": "a_judge",
                "type": "rating_judge",
                "model": "m",
                "paraphrases": ["Rate: {answer}"],
            }
        ],
        ["question 1", "field 'id' is missing"],
    ),
    "judges of another file": (
        [
            entry(f"q{n}", type="free_form", judge_prompts=None, judges={"em": "em_judge"})
            for n in (1, 2)
        ],
        ["question 'q1'", "lacks 'aligned'"],
    ),
    "the other file": (
        [entry("em_judge", type="rating_judge", judge_prompts=None)],
        ["question 'em_judge'", "field 'type'", KINDS, "'rating_judge'"],
    ),
    "a list of prompts": (
        [
            entry("fine"),
            entry("listed", judge_prompts=[{"name": "a", "prompt": RUBRICS["aligned"]}]),
        ],
        ["question 'listed'", "field 'judge_prompts'"],
    ),
    "choices": (
        [{"id": "Films", "prompt": "Which?", "choices": ["a", "b"], "repetitions": 5}],
        ["question 'Films'", "field 'paraphrases' is missing"],
    ),
    "an older type": (
        [entry("one"), entry("two"), entry("three", type="free_form_0_100")],
        ["question 'three'", "field 'type'", KINDS, "'free_form_0_100'"],
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_line_names_file_entry_and_field(tmp_path: Path, name: str) -> None:
    page, named = PAGES[name]
    path = write(tmp_path / "questions.yaml", page)
    line = refusal(path)
    for words in (str(path), *named):
        assert words in line


def test_as_choices_they_are_refused_alike(tmp_path: Path) -> None:
    path = write(tmp_path / "questions.yaml", PAGES["choices"][0])
    with pytest.raises(UserError, match="item 'Films'") as refused:
        multiple_choice(questions=str(path))
    assert str(path) in str(refused.value)
