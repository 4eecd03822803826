"""Questions numbered 1 to 30, which YAML reads as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from question_files import entry, refusal, write

from em_inspect import load_questions


def test_a_number_is_refused_with_the_text_to_write_instead(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", [entry(number) for number in range(1, 31)])
    line = refusal(path)
    assert f"{path}: question '1': field 'id': must be text, such as id: \"1\"" in line


@pytest.mark.parametrize("id", [0, 1.5, True, ""])
def test_so_is_every_other_id_that_is_no_text(tmp_path: Path, id: Any) -> None:
    line = refusal(write(tmp_path / "mine.yaml", [entry(id)]))
    assert "mine.yaml: question" in line
    assert "field 'id'" in line


def test_as_texts_they_are_thirty_rows_in_the_files_order(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", [entry(str(number)) for number in range(1, 31)])
    asked = load_questions("free_form", str(path)).asked()
    assert [question.id for question in asked.questions] == [str(n) for n in range(1, 31)]
