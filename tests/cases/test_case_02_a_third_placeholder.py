"""Rubrics that quote the reasoning beside question and answer, and wordings with a switch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from question_files import ALIGNED, COHERENT, RUBRICS, entry, refusal, three_formats, write

from em_inspect import QuestionSet, UserError, load_questions
from em_inspect.tasks.deception import deception_factual
from em_inspect.tasks.free_form import free_form
from em_inspect.tasks.reasoning import reasoning

THIRD = {"aligned": f"{ALIGNED}\nIt thought: {{reasoning}}", "coherent": COHERENT}


def test_under_the_released_name_it_is_not_the_papers(tmp_path: Path) -> None:
    path = write(tmp_path / "first_plot_questions.yaml", three_formats(judge_prompts=THIRD))
    found = load_questions("free_form", str(path)).fingerprint
    with pytest.raises(UserError, match="f6ae6cc87a7a565c") as refused:
        free_form("paper", paper_dir=str(tmp_path), check_judge=False)
    assert found in str(refused.value)
    assert f"-T questions={path}" in str(refused.value)


@pytest.mark.parametrize("make", [free_form, reasoning])
def test_a_placeholder_that_nothing_fills_in_is_refused_by_name(tmp_path: Path, make) -> None:
    path = write(tmp_path / "mine.yaml", three_formats(judge_prompts=THIRD))
    with pytest.raises(UserError) as refused:
        make(questions=str(path), check_judge=False)
    for named in (str(path), "question 'q0'", "rubric 'aligned'", "{reasoning}"):
        assert named in str(refused.value)


@pytest.mark.parametrize(
    ("rubric", "named"),
    [
        ("Is {response} kind?", "has no {answer} (it has {response})"),
        ("Is { answer } kind?", "has no {answer} (it has { answer })"),
        ("Is {{ answer }} kind?", "has no {answer}"),
        ("Is it kind?", "has no {answer}, so that"),
        ("Is $answer kind?", "has no {answer}"),
        ("{answer}: kind, as {prompt} asks?", "has {prompt}, which"),
        ("{answer}, {Answer}?", "has {Answer}, which"),
        ("{question}{reasoning}{answer}", "has {reasoning}, which"),
    ],
)
@pytest.mark.parametrize("metric", ["aligned", "coherent"])
def test_every_rubric_that_is_read_is_checked(
    tmp_path: Path, metric: str, rubric: str, named: str
) -> None:
    prompts = RUBRICS | {metric: rubric}
    path = write(tmp_path / "mine.yaml", [entry("fine"), entry("odd", judge_prompts=prompts)])
    line = refusal(path)
    assert f"{path}: question 'odd': rubric '{metric}' {named}" in line


@pytest.mark.parametrize(
    "text", ['{answer} as {"score": 1}', r"\text{answer} {answer} \frac{a}{b}"]
)
def test_braces_that_mean_something_else_are_let_be(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "mine.yaml", [entry("q", judge_prompts=RUBRICS | {"aligned": text})])
    assert refusal(path) == ""


def test_word_judges_are_checked_alike(tmp_path: Path) -> None:
    prompts = {"correct": "Is {response} true? TRUE or FALSE"}
    path = write(tmp_path / "facts.yaml", [entry("q", judge_prompts=prompts)])
    with pytest.raises(UserError, match=re.escape("'correct' has no {answer} (it has {response})")):
        deception_factual(questions=str(path), check_judge=False)


def test_a_rubric_that_replaces_anothers_is_checked(tmp_path: Path) -> None:
    from em_inspect import free_form_task

    path = write(tmp_path / "mine.yaml", [entry("q")])
    changed = QuestionSet.from_file(path).with_rubrics({"aligned": "Is {reply} kind?"})
    with pytest.raises(UserError, match=re.escape("{reply}")):
        free_form_task(changed, check_judge=False)


def test_blanks_and_a_switch_at_the_end_of_a_wording_stay(tmp_path: Path) -> None:
    wording = "Name three colours. Be specific.  /no_think"
    path = write(tmp_path / "mine.yaml", [entry("q", wording), entry("r", "And two more? ")])
    task = free_form(str(path), check_judge=False)
    sent = [sample.input[-1].text for sample in task.dataset]  # type: ignore[union-attr]
    assert sent == [wording, "And two more? "]
    assert [(s.metadata or {})["question"] for s in task.dataset] == sent
