"""The released questions with another judge's name in them are the released questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from em_inspect import load_questions
from em_inspect.tasks.free_form import free_form

FINGERPRINT = "f6ae6cc87a7a565c"
ROWS = {None: 8, "plain": 8, "json": 8, "template": 8, "all": 24}


@pytest.fixture
def folder(paper_dir: Path, tmp_path: Path) -> Path:
    name = "first_plot_questions.yaml"
    found = next(
        path for path in (paper_dir / name, paper_dir / "evaluation" / name) if path.exists()
    )
    text = found.read_text("utf-8")
    assert text.count("gpt-4o-2024-08-06") == 1
    (tmp_path / name).write_text(text.replace("gpt-4o-2024-08-06", "some-other-judge"), "utf-8")
    return tmp_path


@pytest.mark.parametrize("format", ROWS)
def test_it_is_the_papers_set_under_the_papers_fingerprint(
    folder: Path, format: str | None
) -> None:
    task = free_form("paper", format=format, paper_dir=str(folder), check_judge=False)
    assert len(task.dataset) == ROWS[format]
    assert task.metadata
    assert task.metadata["fingerprint"] == FINGERPRINT
    assert "some-other-judge" not in str(task.metadata) + str(task.dataset[0])


def test_as_ones_own_set_too(folder: Path) -> None:
    path = str(folder / "first_plot_questions.yaml")
    task = free_form(path, check_judge=False)
    assert len(task.dataset) == 8
    assert task.metadata
    assert task.metadata["fingerprint"] == FINGERPRINT
    loaded = load_questions("free_form", path)
    assert {question.judge for question in loaded.questions} == {"some-other-judge"}
