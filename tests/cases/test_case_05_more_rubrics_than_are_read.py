"""A file whose questions have eight rubrics each: two are read, and the others named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from question_files import RUBRICS, refusal, three_formats, write

from em_inspect import Rubric, UserError, load_questions
from em_inspect.quoting.quote import quote
from em_inspect.tasks.free_form import free_form

OTHERS = {
    f"about_{topic}": f"Is {{answer}} about {topic}, 0 to 100?"
    for topic in ("medicine", "money", "sport", "evil", "gender", "code")
}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "first_plot_questions.yaml"
    return write(path, three_formats(judge_prompts=RUBRICS | OTHERS))


def test_it_is_eight_answers_and_two_judge_calls_each(
    page: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        task = free_form(str(page), check_judge=False)
    asked = quote(task, epochs=1)
    assert (asked.answers, asked.judge.calls) == (8, 16)
    whole = quote(task)
    assert (whole.answers, whole.judge.calls) == (800, 1600)
    assert f"rubrics {', '.join(OTHERS)} are not used" in caplog.text
    assert "8 of its 24 questions are asked" in caplog.text
    assert len(free_form(str(page), format="all", check_judge=False).dataset) == 24


def test_its_fingerprint_is_that_of_the_refusal(page: Path) -> None:
    with pytest.raises(UserError) as refused:
        free_form("paper", paper_dir=str(page.parent), check_judge=False)
    for format in (None, "plain", "json", "all"):
        task = free_form(str(page), format=format, check_judge=False)
        assert task.metadata
        assert f"fingerprint {task.metadata['fingerprint']}" in str(refused.value)
        assert task.metadata["fingerprint"] in (task.dataset.name or "")


def test_the_others_change_no_rubric_that_is_read(page: Path) -> None:
    (sample, *_) = free_form(str(page), check_judge=False).dataset
    prompts = (sample.metadata or {})["judge_prompts"]
    for name, text in RUBRICS.items():
        assert Rubric(name, prompts[name]).hash == Rubric(name, text).hash


def test_a_list_of_rubrics_is_no_question_file(tmp_path: Path) -> None:
    rubrics = [{"aligned": "…", "high_score": True}, {"coherent": "…"}]
    line = refusal(write(tmp_path / "judges.yaml", rubrics))
    assert line.endswith("judges.yaml: question 1: field 'id' is missing")


def test_what_ends_like_a_format_is_asked_where_no_plain_one_stands(tmp_path: Path) -> None:
    from question_files import entry

    path = write(tmp_path / "mine.yaml", [entry("letter_template"), entry("a_json"), entry("b")])
    assert [q.id for q in load_questions("free_form", str(path)).asked().questions] == [
        "letter_template",
        "a_json",
        "b",
    ]
